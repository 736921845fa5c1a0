import { Presets, SingleBar } from "cli-progress";
import { formatBytes } from "./output.ts";

/** A bar on stderr that counts bytes; silent where stderr is no terminal. */
export interface ByteProgress {
  update(doneBytes: number, totalBytes: number): void;
  stop(): void;
}

/** Creates a bar with the given title. It appears with the first update; `stop` removes it and may be called twice. */
export function byteProgress(title: string): ByteProgress {
  let bar: SingleBar | undefined;
  let stopped = false;
  return {
    update(doneBytes, totalBytes) {
      if (!process.stderr.isTTY || stopped) return;
      const payload = { done: formatBytes(doneBytes), all: formatBytes(totalBytes) };
      if (bar) {
        bar.setTotal(totalBytes);
        bar.update(doneBytes, payload);
      } else {
        const format = `${title} [{bar}] {percentage} % · {done} of {all}`;
        const options = { format, stream: process.stderr, clearOnComplete: true, hideCursor: true };
        bar = new SingleBar(options, Presets.legacy);
        bar.start(totalBytes, doneBytes, payload);
      }
    },
    stop() {
      stopped = true;
      bar?.stop();
      bar = undefined;
    },
  };
}
