// Keeps the first layers of a BERT and puts a constant block on top, whose rows are the (normalised) mean of the last kept layer's: in an encoder whose
// sentence embedding is that mean, the first token's row alone, which a head of classes reads, says little. Query and key are 0, so that each
// token is attended to alike; value is the identity, and output too, times SCALE, beside which the residual hardly counts; the feed-forward layer
// adds nothing. Nothing in the block is trained: pooler and classes are the head. Usage: node mean_block.mjs MODEL_FOLDER NEW_FOLDER [LAYERS]
import { copyFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Of the mean beside the residual; the norm that follows takes it away again. */
const SCALE = 100;
const TOKENIZER_FILES = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt"];

const [, , from, to, count] = process.argv;
if (!from || !to) {
  process.stderr.write("usage: node mean_block.mjs MODEL_FOLDER NEW_FOLDER [LAYERS]\n");
  process.exit(2);
}

const config = JSON.parse(readFileSync(join(from, "config.json"), "utf8"));
const { hidden_size: width, intermediate_size: inner, num_hidden_layers: depth } = config;
const layers = Number(count ?? depth);
if (config.model_type !== "bert")
  throw new Error(`mean_block: a model of type bert is needed; got ${config.model_type}`);
if (!Number.isInteger(layers) || layers < 1 || layers > depth)
  throw new Error(`mean_block: LAYERS must be 1 to ${depth}, the model's own; got ${count}`);
mkdirSync(to, { recursive: true });
writeFileSync(join(to, "config.json"), `${JSON.stringify({ ...config, num_hidden_layers: layers + 1 }, null, 2)}\n`);
for (const name of TOKENIZER_FILES) if (existsSync(join(from, name))) copyFileSync(join(from, name), join(to, name));

const identity = (/** @type {number} */ scale) =>
  Float32Array.from({ length: width * width }, (_, i) => (i % (width + 1) === 0 ? scale : 0));
const zeros = (/** @type {number} */ count) => new Float32Array(count);
const ones = new Float32Array(width).fill(1);

const block = `encoder.layer.${layers}`;
/** @type {Record<string, { shape: number[], data: Float32Array }>} */
const fresh = {
  ...linear("attention.self.query", width, width, zeros(width * width)),
  ...linear("attention.self.key", width, width, zeros(width * width)),
  ...linear("attention.self.value", width, width, identity(1)),
  ...linear("attention.output.dense", width, width, identity(SCALE)),
  ...norm("attention.output.LayerNorm"),
  ...linear("intermediate.dense", inner, width, zeros(inner * width)),
  ...linear("output.dense", width, inner, zeros(width * inner)),
  ...norm("output.LayerNorm"),
};
writeFileSync(join(to, "model.safetensors"), changed(readFileSync(join(from, "model.safetensors")), fresh));
process.stdout.write(`${to}: ${layers + 1} layers, the last the mean of the rows below\n`);

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
 * A safetensors file without the layers from `layers` on, and with more f32 tensors.
 * @param {Buffer} file @param {Record<string, { shape: number[], data: Float32Array }>} tensors
 */
function changed(file, tensors) {
  const headerBytes = Number(file.readBigUInt64LE(0));
  const { __metadata__, ...own } = JSON.parse(file.subarray(8, 8 + headerBytes).toString("utf8"));
  /** @type {Record<string, object>} */
  const header = __metadata__ ? { __metadata__ } : {};
  /** @type {Buffer[]} */
  const chunks = [];
  let at = 0;
  const add = (/** @type {string} */ name, /** @type {object} */ entry, /** @type {Buffer} */ bytes) => {
    header[name] = { ...entry, data_offsets: [at, at + bytes.length] };
    chunks.push(bytes);
    at += bytes.length;
  };
  for (const [name, { data_offsets: place, ...entry }] of Object.entries(own)) {
    const layer = /encoder\.layer\.(\d+)\./.exec(name)?.[1];
    if (layer !== undefined && Number(layer) >= layers) continue;
    add(name, entry, file.subarray(8 + headerBytes + place[0], 8 + headerBytes + place[1]));
  }
  for (const [name, { shape, data }] of Object.entries(tensors))
    add(name, { dtype: "F32", shape }, Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  const text = JSON.stringify(header);
  const padded = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8));
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(padded.length));
  return Buffer.concat([size, padded, ...chunks]);
}
