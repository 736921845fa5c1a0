import { checkRange, collect, type ReadOptions, type SourceFile } from "../core/source.ts";

/**
 * The rows of the query or key heads of a Llama in a GGUF file, in the Hub's order. Conversion puts the two channels that turn together
 * beside each other (row 2j + t of a head); the Hub keeps them half a head apart (row t · D/2 + j).
 */
export class HeadRowsFile implements SourceFile {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #file: SourceFile;
  readonly #start: number;
  readonly #rowBytes: number;
  readonly #headDim: number;

  constructor(file: SourceFile, rows: { start: number; end: number; rowBytes: number; headDim: number }) {
    this.name = file.name;
    this.sizeBytes = rows.end - rows.start;
    this.#file = file;
    this.#start = rows.start;
    this.#rowBytes = rows.rowBytes;
    this.#headDim = rows.headDim;
  }

  async *stream(start: number, end: number, options: ReadOptions = {}): AsyncIterable<Uint8Array> {
    checkRange(this, start, end);
    const headBytes = this.#rowBytes * this.#headDim;
    for (let head = Math.floor(start / headBytes); head * headBytes < end; head++) {
      const from = head * headBytes;
      const source = await this.#file.read(this.#start + from, this.#start + from + headBytes, options);
      const turned = this.#turnHead(source);
      yield turned.subarray(Math.max(0, start - from), Math.min(headBytes, end - from));
    }
  }

  read(start: number, end: number, options: ReadOptions = {}): Promise<Uint8Array> {
    checkRange(this, start, end);
    return collect(this.stream(start, end, options), end - start, this.name);
  }

  #turnHead(source: Uint8Array): Uint8Array {
    const out = new Uint8Array(source.length);
    const half = this.#headDim / 2;
    const bytes = this.#rowBytes;
    for (let row = 0; row < this.#headDim; row++) {
      const from = (2 * (row % half) + Math.floor(row / half)) * bytes;
      out.set(source.subarray(from, from + bytes), row * bytes);
    }
    return out;
  }
}

/** f32 numbers less 1: conversion adds 1 to Gemma's gains, which the Hub keeps without. */
export class LessOneFile implements SourceFile {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #file: SourceFile;
  readonly #start: number;

  constructor(file: SourceFile, start: number, end: number) {
    this.name = file.name;
    this.sizeBytes = end - start;
    this.#file = file;
    this.#start = start;
  }

  async *stream(start: number, end: number, options: ReadOptions = {}): AsyncIterable<Uint8Array> {
    checkRange(this, start, end);
    // Gains are small: the whole of them is read.
    const bytes = Uint8Array.from(await this.#file.read(this.#start, this.#start + this.sizeBytes, options));
    const view = new DataView(bytes.buffer);
    for (let at = 0; at < bytes.length; at += 4) view.setFloat32(at, view.getFloat32(at, true) - 1, true);
    yield bytes.subarray(start, end);
  }

  read(start: number, end: number, options: ReadOptions = {}): Promise<Uint8Array> {
    checkRange(this, start, end);
    return collect(this.stream(start, end, options), end - start, this.name);
  }
}
