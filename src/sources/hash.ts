/** A hash that takes its input piece by piece. */
export interface StreamingHash {
  update(bytes: Uint8Array): void;
  /** Ends the hash: 64 lower-case hexadecimal digits for SHA-256. */
  digestHex(): string;
}

// First 32 bits of the fractional parts of the cube roots of the first 64 primes (FIPS 180-4 §4.2.2), computed.
const ROUND = Int32Array.from(firstPrimes(64), (p) => fraction32(Math.cbrt(p)));
// And of the square roots of the first 8 (§5.3.3).
const START = Int32Array.from(firstPrimes(8), (p) => fraction32(Math.sqrt(p)));

function firstPrimes(count: number): number[] {
  const primes: number[] = [];
  for (let n = 2; primes.length < count; n++) if (primes.every((p) => n % p !== 0)) primes.push(n);
  return primes;
}

function fraction32(root: number): number {
  return Math.floor((root - Math.floor(root)) * 2 ** 32) | 0;
}

/**
 * SHA-256 (FIPS 180-4 §6.2) in plain TypeScript: browsers offer no hash that can be fed in pieces, and a checkpoint is
 * too large to be hashed at once.
 */
export function createSha256(): StreamingHash {
  const state = START.slice();
  const block = new Uint8Array(64);
  const view = new DataView(block.buffer);
  const schedule = new Int32Array(64);
  let filled = 0;
  let total = 0;
  const update = (bytes: Uint8Array): void => {
    total += bytes.length;
    let at = 0;
    if (filled > 0) {
      at = Math.min(64 - filled, bytes.length);
      block.set(bytes.subarray(0, at), filled);
      filled += at;
      if (filled < 64) return;
      compress(state, view, 0, schedule);
    }
    const input = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (; at + 64 <= bytes.length; at += 64) compress(state, input, at, schedule);
    block.set(bytes.subarray(at));
    filled = bytes.length - at;
  };
  const digestHex = (): string => {
    block.fill(0, filled);
    block[filled] = 0x80;
    if (filled >= 56) {
      compress(state, view, 0, schedule);
      block.fill(0);
    }
    view.setBigUint64(56, BigInt(total) * 8n);
    compress(state, view, 0, schedule);
    return [...state].map((word) => (word >>> 0).toString(16).padStart(8, "0")).join("");
  };
  return { update, digestHex };
}

/** SHA-256 of a short text, as hexadecimal digits. */
export function sha256Hex(text: string): string {
  const hash = createSha256();
  hash.update(new TextEncoder().encode(text));
  return hash.digestHex();
}

/** Words are signed here: V8 keeps those in registers, and makes numbers beyond 2^31 doubles. */
function compress(state: Int32Array, block: DataView, at: number, w: Int32Array): void {
  for (let t = 0; t < 16; t++) w[t] = block.getInt32(at + 4 * t);
  for (let t = 16; t < 64; t++) {
    const x = w[t - 15] as number;
    const y = w[t - 2] as number;
    const s0 = rotate(x, 7) ^ rotate(x, 18) ^ (x >>> 3);
    const s1 = rotate(y, 17) ^ rotate(y, 19) ^ (y >>> 10);
    w[t] = ((((w[t - 16] as number) + s0) | 0) + (((w[t - 7] as number) + s1) | 0)) | 0;
  }
  let a = state[0] as number;
  let b = state[1] as number;
  let c = state[2] as number;
  let d = state[3] as number;
  let e = state[4] as number;
  let f = state[5] as number;
  let g = state[6] as number;
  let h = state[7] as number;
  for (let t = 0; t < 64; t++) {
    const big1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
    const choose = g ^ (e & (f ^ g));
    const t1 = (((h + big1) | 0) + ((choose + (((ROUND[t] as number) + (w[t] as number)) | 0)) | 0)) | 0;
    const big0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
    const majority = (a & b) | (c & (a | b));
    h = g;
    g = f;
    f = e;
    e = (d + t1) | 0;
    d = c;
    c = b;
    b = a;
    a = (t1 + ((big0 + majority) | 0)) | 0;
  }
  state[0] = (state[0] as number) + a;
  state[1] = (state[1] as number) + b;
  state[2] = (state[2] as number) + c;
  state[3] = (state[3] as number) + d;
  state[4] = (state[4] as number) + e;
  state[5] = (state[5] as number) + f;
  state[6] = (state[6] as number) + g;
  state[7] = (state[7] as number) + h;
}

function rotate(x: number, n: number): number {
  return (x >>> n) | (x << (32 - n));
}
