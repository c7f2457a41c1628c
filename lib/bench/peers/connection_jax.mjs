/**
 * The connection of birkhoff's `connect` in jax-js (WebAssembly), as a peer of the benchmark. Same maths as
 * native/ops/mhc_pre.h and mhc_post.h, paper convention, branch F(u) = u; one jit over forward and backward.
 * Speaks the lines described in connection_torch.py. jax-js consumes its arguments: `.ref` keeps one alive.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

/** Beside birkhoff, in the folder it is run from, or apart from all in a checkout (bench/peers). */
function locate() {
  const places = [
    import.meta.filename,
    join(process.cwd(), "x.js"),
    join(import.meta.dirname, "../../../bench/peers/x.js"),
  ];
  for (const place of places)
    try {
      return createRequire(place).resolve("@jax-js/jax");
    } catch {
      // The next one.
    }
  throw new Error("Cannot find package '@jax-js/jax'");
}

const entry = locate();
const jax = await import(pathToFileURL(entry).href);
const { numpy: np, nn, jit, vjp } = jax;
const folder = process.argv[2];
const { tokens, n, channels, iters, normEps } = JSON.parse(readFileSync(join(folder, "case.json"), "utf8"));
const [width, coefficients] = [n * channels, n * n + 2 * n];

function load(name, shape) {
  const file = readFileSync(join(folder, name));
  return np.array(new Float32Array(file.buffer.slice(file.byteOffset, file.byteOffset + file.length))).reshape(shape);
}

function connection(x, phi, alpha, bias) {
  const v = x.ref.reshape([tokens, width]);
  const square = np.square(v.ref).mean(-1, { keepdims: true });
  const m = np.matmul(v, phi.transpose()).div(np.sqrt(square.add(normEps)));
  // One product per group; a slice keeps everything in one kernel.
  const z = (group, from, to) =>
    m.ref
      .slice([], [from, to])
      .mul(alpha.ref.slice(group))
      .add(bias.ref.slice([from, to]));
  const pre = nn.sigmoid(z(0, 0, n));
  const post = nn.sigmoid(z(1, n, 2 * n)).mul(2);
  const logits = z(2, 2 * n, coefficients).reshape([tokens, n, n]);
  for (const used of [m, alpha, bias]) used.dispose();
  const shift = jax.lax.stopGradient(np.max(logits.ref, [1, 2], { keepdims: true }));
  let res = np.exp(logits.sub(shift));
  for (let i = 0; i < iters; i++) {
    res = res.ref.div(res.sum(1, { keepdims: true }));
    res = res.ref.div(res.sum(2, { keepdims: true }));
  }
  const u = pre.reshape([tokens, n, 1]).mul(x.ref).sum(1);
  const output = u.reshape([tokens, 1, channels]);
  const mixed = np.matmul(res, x);
  return mixed.add(post.reshape([tokens, n, 1]).mul(output));
}

const forwardBackward = jit((x, phi, alpha, bias, gradY) => {
  const [y, pullback] = vjp(connection, [x, phi, alpha, bias]);
  const grads = pullback(gradY);
  pullback.dispose();
  return [y, ...grads];
});

await jax.init("wasm");
jax.defaultDevice("wasm");
const args = [
  load("x", [tokens, n, channels]),
  load("phi", [coefficients, width]),
  load("alpha", [3]),
  load("bias", [coefficients]),
  load("gradY", [tokens, n, channels]),
];

async function run() {
  const results = forwardBackward(...args.map((a) => a.ref));
  await jax.blockUntilReady(results);
  return results;
}

const release = (results) => {
  for (const result of results) result.dispose();
};

const start = performance.now();
release(await run());
const first = (performance.now() - start) / 1e3;
const { version } = JSON.parse(readFileSync(join(entry, "../../package.json"), "utf8"));
// Node has no Web Workers under the browser's name, which jax-js would need for more threads.
const threads = typeof Worker === "undefined" ? "1 thread" : "several threads";
console.log("ready", JSON.stringify({ description: `jax-js ${version} wasm jit, ${threads}`, first_pass_s: first }));

for await (const line of createInterface({ input: process.stdin })) {
  const [command, argument] = line.split(" ");
  if (command === "run") {
    release(await run());
    const times = [];
    for (let i = 0; i < Number(argument); i++) {
      const begin = performance.now();
      const results = await run();
      times.push((performance.now() - begin).toFixed(4));
      release(results);
    }
    console.log("times", ...times);
  } else if (command === "check") {
    const results = await run();
    for (const [i, name] of ["y", "dx", "dphi", "dalpha", "dbias"].entries())
      writeFileSync(join(folder, `${argument}.${name}`), await results[i].data());
    console.log("checked");
  } else if (command === "quit") break;
}
process.exit(0);
