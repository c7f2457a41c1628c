/** Writes a file so that the old content or the new one is there at any time, never a part of either. */
import { open, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";

/** @internal Writes to a temporary file in the same folder, syncs, renames. On failure the temporary file is removed. */
export async function writeAtomically(file: string, chunks: Iterable<Uint8Array>): Promise<void> {
  const temporary = join(dirname(file), `.${basename(file)}.${process.pid}.tmp`);
  try {
    const handle = await open(temporary, "w");
    try {
      for (const chunk of chunks) await writeAll(handle, chunk);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw error;
  }
  // The rename itself is durable only once the folder is; not every file system can sync one, so failure here is no loss.
  const folder = await open(dirname(file), "r").catch(() => undefined);
  await folder?.sync().catch(() => {});
  await folder?.close();
}

// A full disk shows as a short write first, so one call is not enough.
async function writeAll(handle: Awaited<ReturnType<typeof open>>, chunk: Uint8Array): Promise<void> {
  let done = 0;
  while (done < chunk.length) done += (await handle.write(chunk, done, chunk.length - done)).bytesWritten;
}
