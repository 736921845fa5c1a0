import { HeedError } from "../core/errors.ts";
import { numel } from "../core/shape.ts";
import { checkRange, collect, type ReadOptions, type SourceFile } from "../core/source.ts";

/** Most bytes of a view that is gathered element by element: its whole range is held. */
const MAX_VIEW_BYTES = 2 ** 30;

/** Where a view's elements are: byte of the first, and elements from one index to the next, for each dimension. */
export interface StridedView {
  readonly start: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];
  readonly elementBytes: number;
}

/** The elements of a strided view (a transpose, a slice of columns) in row-major order, as if they were a file. */
export class StridedFile implements SourceFile {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #file: SourceFile;
  readonly #view: StridedView;

  /** Throws `UNSUPPORTED` for a view of more than 1 GiB. */
  constructor(file: SourceFile, view: StridedView) {
    this.name = file.name;
    this.sizeBytes = numel(view.shape) * view.elementBytes;
    this.#file = file;
    this.#view = view;
    if (Math.max(this.sizeBytes, this.#extentBytes()) <= MAX_VIEW_BYTES) return;
    throw new HeedError(
      "UNSUPPORTED",
      `pytorch: a tensor that is not contiguous must have at most ${MAX_VIEW_BYTES} bytes; got ${this.sizeBytes} in ${file.name}. Save it contiguous.`,
    );
  }

  async *stream(start: number, end: number, options: ReadOptions = {}): AsyncIterable<Uint8Array> {
    checkRange(this, start, end);
    const { start: from, elementBytes } = this.#view;
    const source = await this.#file.read(from, from + this.#extentBytes(), options);
    const chunk = new Uint8Array(Math.min(2 ** 20, Math.max(1, end - start)));
    for (let at = start; at < end; ) {
      const bytes = Math.min(chunk.length, end - at);
      for (let i = 0; i < bytes; ) {
        const element = Math.floor((at + i) / elementBytes);
        const within = (at + i) % elementBytes;
        const take = Math.min(elementBytes - within, bytes - i);
        const place = this.#placeOf(element) * elementBytes + within;
        for (let b = 0; b < take; b++) chunk[i + b] = source[place + b] as number;
        i += take;
      }
      at += bytes;
      yield chunk.subarray(0, bytes);
    }
  }

  read(start: number, end: number, options: ReadOptions = {}): Promise<Uint8Array> {
    checkRange(this, start, end);
    return collect(this.stream(start, end, options), end - start, this.name);
  }

  #extentBytes(): number {
    const { shape, strides, elementBytes } = this.#view;
    if (shape.includes(0)) return 0;
    return (1 + shape.reduce((sum, d, i) => sum + (d - 1) * (strides[i] as number), 0)) * elementBytes;
  }

  /** Elements from the view's first to its i-th. */
  #placeOf(index: number): number {
    const { shape, strides } = this.#view;
    let place = 0;
    let rest = index;
    for (let i = shape.length - 1; i >= 0; i--) {
      const size = shape[i] as number;
      place += (rest % size) * (strides[i] as number);
      rest = Math.floor(rest / size);
    }
    return place;
  }
}
