import { HeedError, isHeedError } from "../core/errors.ts";
import type { ReadOptions, SourceFile } from "../core/source.ts";
import { type FileKind, mistakenText } from "../core/text_kinds.ts";

interface Kind extends FileKind {
  readonly is: (text: string, name: string) => boolean;
}

const CONVERT = "Use the checkpoint's safetensors, pytorch_model.bin or GGUF, or convert it to one of these.";
const starts =
  (...beginnings: string[]) =>
  (text: string) =>
    beginnings.some((beginning) => text.toLowerCase().startsWith(beginning));

/** A protobuf with a small ir_version in field 1, then a text in field 2 (onnx.proto, `ModelProto`). */
const beginsAsOnnx = (text: string) =>
  text.charCodeAt(0) === 0x08 && text.charCodeAt(1) <= 0x10 && text.charCodeAt(2) === 0x12;

/** Files that people give for weights, by how they begin (bytes as Latin-1), the surest first. */
const KINDS: readonly Kind[] = [
  {
    what: "a safetensors file",
    mend: "Name it model.safetensors, in a folder with its config.json.",
    is: (text) => text[8] === "{" && text.slice(5, 8) === "\0\0\0",
  },
  { what: "a GGUF file", mend: "Name it with its .gguf ending and load that file.", is: starts("gguf") },
  {
    what: "a GGML file from before GGUF",
    mend: "Convert it to GGUF with llama.cpp.",
    is: starts("lmgg", "fmgg", "tjgg", "algg"),
  },
  { what: "an HDF5 file (Keras)", mend: CONVERT, is: starts("\u0089hdf") },
  { what: "a TensorFlow Lite model", mend: CONVERT, is: (text) => text.slice(4, 8) === "TFL3" },
  {
    what: "a PyTorch checkpoint (or another zip archive)",
    mend: "Name it pytorch_model.bin.",
    is: starts("pk\u0003\u0004", "\u0080\u0002"),
  },
  { what: "a gzip archive", mend: "Unpack it.", is: starts("\u001f\u008b") },
  { what: "a tar archive", mend: "Unpack it.", is: (text) => text.slice(257, 262) === "ustar" },
  {
    what: "an ONNX model",
    mend: CONVERT,
    is: (text, name) => name.endsWith(".onnx") || beginsAsOnnx(text),
  },
  { what: "JSON text", mend: "Give the weights' own file.", is: (text) => /^\s*[{[]\s*"/.test(text) },
];

/** What a file is, as far as its beginning tells. */
export async function sniffFile(file: SourceFile, options: ReadOptions = {}): Promise<FileKind | undefined> {
  if (file.sizeBytes === 0) return { what: "empty", mend: "Download it again." };
  const bytes = await file.read(0, Math.min(512, file.sizeBytes), options);
  const text = String.fromCharCode(...bytes);
  return mistakenText(text) ?? KINDS.find((kind) => kind.is(text, file.name));
}

/** Runs a reader of `format`; where the file turns out to be of another kind, the error says of which, and what to do. */
export async function readAs<T>(
  format: string,
  file: SourceFile,
  read: () => Promise<T>,
  options: ReadOptions = {},
): Promise<T> {
  try {
    return await read();
  } catch (cause) {
    if (!isHeedError(cause, "BAD_FILE") && !isHeedError(cause, "UNSUPPORTED")) throw cause;
    const kind = await sniffFile(file, options).catch(() => undefined);
    if (!kind || format.startsWith(kind.what.slice(0, 14))) throw cause;
    throw new HeedError("BAD_FILE", `open: ${file.name} must be ${format}; it is ${kind.what}. ${kind.mend}`, {
      cause,
    });
  }
}
