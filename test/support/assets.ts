import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, it } from "vitest";

const REPO_ROOT = resolve(fileURLToPath(new URL("../..", import.meta.url)));

/** The folder of optional test assets (`HEED_ASSETS`, default `../shared/assets` beside the repository), or undefined. */
export function assetsPath(): string | undefined {
  const path = resolve(REPO_ROOT, process.env["HEED_ASSETS"] || "../shared/assets");
  return existsSync(path) ? path : undefined;
}

/** `describe` for tests that read `part` of the assets; skipped, and named so, where it is absent. */
export function describeWithAssets(name: string, part: string, body: (path: string) => void): void {
  void withAssets(name, part, (path) => {
    describe(name, () => body(path));
  });
}

/** Declares tests that read `part` of the assets, or the folder that the variable `env` names; skipped, and named so, without. */
export async function withAssets(
  name: string,
  part: string,
  body: (path: string) => void | Promise<void>,
  env?: string,
): Promise<void> {
  const root = assetsPath();
  const paths = [env && process.env[env], root && join(root, part)];
  const path = paths.find((one): one is string => one !== undefined && one !== "" && existsSync(one));
  if (path !== undefined) return body(path);
  const needs = `needs the asset ${part}: set HEED_ASSETS${env ? ` or ${env}` : ""}`;
  describe(name, () => it.skip(needs, () => {}));
}

/** An array of the assets: base64 little-endian data, row-major. */
export interface AssetArray {
  dtype: string;
  shape: number[];
  data: string;
}

const READERS: Record<string, (view: DataView, index: number) => number> = {
  float16: (view, i) => halfToNumber(view.getUint16(2 * i, true)),
  float32: (view, i) => view.getFloat32(4 * i, true),
  float64: (view, i) => view.getFloat64(8 * i, true),
  int32: (view, i) => view.getInt32(4 * i, true),
  int64: (view, i) => Number(view.getBigInt64(8 * i, true)),
  uint8: (view, i) => view.getUint8(i),
  bool: (view, i) => view.getUint8(i),
};

/** The numbers of an asset's array. Throws on a dtype that it does not know. */
export function decodeArray(array: AssetArray): Float64Array {
  const read = READERS[array.dtype];
  if (!read) throw new Error(`asset array of dtype ${array.dtype} is not readable`);
  const bytes = Buffer.from(array.data, "base64");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float64Array.from({ length: array.shape.reduce((a, b) => a * b, 1) }, (_, i) => read(view, i));
}

/** Reads a JSON file. */
export function readJson<T>(path: string): T {
  return JSON.parse(readFileSync(path, "utf8")) as T;
}

function halfToNumber(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}
