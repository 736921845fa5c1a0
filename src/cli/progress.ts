import { Presets, SingleBar } from "cli-progress";
import { formatBytes } from "./output.ts";

/** A bar on stderr that counts bytes, or what else is done; silent where stderr is no terminal. */
export interface ByteProgress {
  update(doneBytes: number, totalBytes: number): void;
  stop(): void;
}

/** Creates a bar with the given title. It appears with the first update; `stop` removes it and may be called twice. */
export function byteProgress(title: string): ByteProgress {
  return progressBar(title, formatBytes);
}

/** Like {@link byteProgress}, for things that are counted. */
export function countProgress(title: string): ByteProgress {
  return progressBar(title, String);
}

function progressBar(title: string, format: (amount: number) => string): ByteProgress {
  let bar: SingleBar | undefined;
  let stopped = false;
  return {
    update(doneBytes, totalBytes) {
      if (!process.stderr.isTTY || stopped) return;
      const payload = { done: format(doneBytes), all: format(totalBytes) };
      if (bar) {
        bar.setTotal(totalBytes);
        bar.update(doneBytes, payload);
      } else {
        const layout = `${title} [{bar}] {percentage} % · {done} of {all}`;
        const options = { format: layout, stream: process.stderr, clearOnComplete: true, hideCursor: true };
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
