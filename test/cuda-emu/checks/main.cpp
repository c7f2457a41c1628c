// Runs one group of checks under one schedule: cuda_emu_checks GROUP ORDER SEED LAZY. Prints JSON lines for
// executor.test.ts.
#include <cstdio>
#include <cstdlib>
#include <map>

#include "checks.h"

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

void expect(const std::string& name, bool ok) {
  printf("{\"name\": %s, \"ok\": %s}\n", quoted(name).c_str(), ok ? "true" : "false");
}

int main(int argc, char** argv) {
  const std::map<std::string, void (*)()> groups{
      {"broken", run_broken_kernels}, {"fragments", run_fragments}, {"streams", run_streams}, {"faults", run_faults}};
  const auto group = argc == 5 ? groups.find(argv[1]) : groups.end();
  if (group == groups.end()) {
    fprintf(stderr, "usage: cuda_emu_checks broken|fragments|streams|faults ORDER SEED LAZY\n");
    return 2;
  }
  cuda_emu_config(atoi(argv[2]), strtoull(argv[3], nullptr, 10), atoi(argv[4]), 1);
  group->second();
  return 0;
}
