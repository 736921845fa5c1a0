// Puts a fresh block on top of a BERT whose sentence embedding is the mean of its rows: one that begins as that mean, in the rows that a
// head of classes reads. Query and key are near 0, so that each token is attended to alike; value and output are the identity, times
// SCALE, beside which the residual hardly counts; the feed-forward layer adds nothing. With the encoder below frozen it is a head that
// learns which tokens to look at. Usage: node add_block.mjs MODEL_FOLDER NEW_FOLDER
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Of the attended mean beside the residual; the norm that follows takes it away again. */
const SCALE = 10;
/** Standard deviation of query, key and the first feed-forward matrix, as in BERT's released code. */
const DEVIATION = 0.02;
const TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"];

const [, , from, to] = process.argv;
if (!from || !to) {
  process.stderr.write("usage: node add_block.mjs MODEL_FOLDER NEW_FOLDER\n");
  process.exit(2);
}

const config = JSON.parse(readFileSync(join(from, "config.json"), "utf8"));
const { hidden_size: width, intermediate_size: inner, num_hidden_layers: layers } = config;
if (config.model_type !== "bert")
  throw new Error(`add_block: a model of type bert is needed; got ${config.model_type}`);
mkdirSync(to, { recursive: true });
writeFileSync(join(to, "config.json"), `${JSON.stringify({ ...config, num_hidden_layers: layers + 1 }, null, 2)}\n`);
for (const name of TOKENIZER_FILES) if (existsSync(join(from, name))) copyFileSync(join(from, name), join(to, name));

const normal = normalNumbers(1);
const small = (/** @type {number} */ count) => Float32Array.from({ length: count }, () => DEVIATION * normal());
const identity = (/** @type {number} */ scale) =>
  Float32Array.from({ length: width * width }, (_, i) => (i % (width + 1) === 0 ? scale : 0));
const zeros = (/** @type {number} */ count) => new Float32Array(count);
const ones = new Float32Array(width).fill(1);

const block = `encoder.layer.${layers}`;
/** @type {Record<string, { shape: number[], data: Float32Array }>} */
const fresh = {
  ...linear("attention.self.query", width, width, small(width * width)),
  ...linear("attention.self.key", width, width, small(width * width)),
  ...linear("attention.self.value", width, width, identity(1)),
  ...linear("attention.output.dense", width, width, identity(SCALE)),
  ...norm("attention.output.LayerNorm"),
  ...linear("intermediate.dense", inner, width, small(inner * width)),
  ...linear("output.dense", width, inner, zeros(width * inner)),
  ...norm("output.LayerNorm"),
};
writeFileSync(join(to, "model.safetensors"), added(readFileSync(join(from, "model.safetensors")), fresh));
process.stdout.write(`${to}: ${layers + 1} layers, the last fresh\n`);

/** @param {string} name @param {number} rows @param {number} columns @param {Float32Array} weight */
function linear(name, rows, columns, weight) {
  return {
    [`${block}.${name}.weight`]: { shape: [rows, columns], data: weight },
    [`${block}.${name}.bias`]: { shape: [rows], data: zeros(rows) },
  };
}

/** @param {string} name */
function norm(name) {
  return {
    [`${block}.${name}.weight`]: { shape: [width], data: ones },
    [`${block}.${name}.bias`]: { shape: [width], data: zeros(width) },
  };
}

/**
 * A safetensors file with more f32 tensors behind its own.
 * @param {Buffer} file @param {Record<string, { shape: number[], data: Float32Array }>} tensors
 */
function added(file, tensors) {
  const headerBytes = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, 8 + headerBytes).toString("utf8"));
  const own = file.subarray(8 + headerBytes);
  let at = own.length;
  const chunks = [own];
  for (const [name, { shape, data }] of Object.entries(tensors)) {
    header[name] = { dtype: "F32", shape, data_offsets: [at, at + data.byteLength] };
    at += data.byteLength;
    chunks.push(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  }
  const text = JSON.stringify(header);
  const padded = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(padded.length));
  return Buffer.concat([size, padded, ...chunks]);
}

/** Standard normal numbers from a seed: a linear congruence through Box and Muller's transform. @param {number} seed */
function normalNumbers(seed) {
  let state = seed;
  const uniform = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state + 0.5) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}
