import pc from "picocolors";

/** Colours for a stream: none unless it is a terminal, and none under `NO_COLOR`. */
function colors(stream: NodeJS.WriteStream): ReturnType<typeof pc.createColors> {
  const { NO_COLOR, FORCE_COLOR } = process.env;
  return pc.createColors(!NO_COLOR && (Boolean(FORCE_COLOR) || stream.isTTY === true));
}

/** Colours for results. */
export const outColors = colors(process.stdout);
/** Colours for notes and errors. */
export const errColors = colors(process.stderr);

/** Writes a piece of a result to stdout, without a line's end. */
export function print(text: string): void {
  process.stdout.write(text);
}

/** Writes a line of result to stdout. */
export function printLine(line = ""): void {
  print(`${line}\n`);
}

/** Writes a line about the work, not its result, to stderr. */
export function note(line: string): void {
  process.stderr.write(`${errColors.dim(line)}\n`);
}

/** Writes an error to stderr; its stack only under `HEED_DEBUG`. */
export function printError(error: unknown): void {
  const message = error instanceof Error ? error.message : String(error);
  process.stderr.write(`${errColors.red("heed:")} ${message}\n`);
  if (process.env["HEED_DEBUG"] && error instanceof Error) process.stderr.write(`${error.stack}\n`);
}

/** `1.5 GB`, in powers of ten. */
export function formatBytes(bytes: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 || value >= 100 ? value.toFixed(0) : value.toPrecision(3)} ${units[unit]}`;
}
