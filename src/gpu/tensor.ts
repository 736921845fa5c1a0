import { bytesPerElement, type TensorDType } from "../core/dtype.ts";
import { HeedError, invariant } from "../core/errors.ts";
import { dim, formatShape, numel, type Shape, shapeError } from "../core/shape.ts";
import type { Device } from "./device.ts";

/** A range of a tensor's rows (its first dimension) in one buffer. */
export interface TensorPart {
  readonly buffer: GPUBuffer;
  readonly offsetBytes: number;
  readonly sizeBytes: number;
  readonly rowStart: number;
  readonly rows: number;
  /** How its elements are stored: the tensor's `dtype`, but where a weight was joined of several formats. */
  readonly dtype: TensorDType;
}

export interface TensorOptions {
  /** Largest row part, where it is to be smaller than the device's binding limit. */
  readonly maxPartBytes?: number;
  /** Rows of different formats, in their order; each has parts of its own. Default: all rows in the tensor's dtype. */
  readonly joined?: readonly { readonly rows: number; readonly dtype: TensorDType }[];
}

interface PartsOptions extends TensorOptions {
  readonly label: string;
  readonly shape: Shape;
  readonly rowElements: number;
  readonly rowStart: number;
  readonly rows: number;
  readonly dtype: TensorDType;
}

/** Allocates the parts of a run of rows of one format, and adds them to `parts`. */
function makeParts(device: Device, options: PartsOptions, parts: TensorPart[]): void {
  const { label, rows, dtype, rowStart: firstRow } = options;
  const rowBytes = options.rowElements * bytesPerElement(dtype);
  const { maxStorageBufferBindingSize, maxBufferSize } = device.raw.limits;
  const limit = Math.min(maxStorageBufferBindingSize, maxBufferSize, options.maxPartBytes ?? maxBufferSize);
  if (rowBytes > limit) {
    throw new HeedError(
      "LIMIT",
      `tensor ${label}: one row of ${formatShape(options.shape)} ${dtype} exceeds the binding limit of ${limit} bytes`,
    );
  }
  // Rows of a part are a multiple of 8, so that kernels that tile rows never straddle two parts.
  const rowsPerPart =
    rowBytes * rows <= limit ? rows : Math.floor(limit / rowBytes / 8) * 8 || Math.floor(limit / rowBytes);
  const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
  for (let row = 0; row < Math.max(rows, 1); row += rowsPerPart) {
    const n = Math.min(rowsPerPart, rows - row);
    const sizeBytes = Math.max(4, Math.ceil((n * rowBytes) / 4) * 4);
    const rowStart = firstRow + row;
    const name = rowStart === 0 ? label : `${label}[${rowStart}..]`;
    const buffer = device.createBuffer(name, sizeBytes, usage);
    parts.push({ buffer, offsetBytes: 0, sizeBytes, rowStart, rows: n, dtype });
    if (rowsPerPart === 0) break;
  }
}

/**
 * A tensor in GPU memory, row-major. One that is larger than a binding may be is a list of row parts; all others
 * have one. The tensor owns its buffers: whoever made it disposes it.
 */
export class Tensor {
  readonly device: Device;
  readonly label: string;
  readonly shape: Shape;
  readonly dtype: TensorDType;
  readonly parts: readonly TensorPart[];
  #base: Tensor | undefined;
  #disposed = false;

  private constructor(device: Device, label: string, shape: Shape, dtype: TensorDType, parts: readonly TensorPart[]) {
    this.device = device;
    this.label = label;
    this.shape = shape;
    this.dtype = dtype;
    this.parts = parts;
  }

  /**
   * Allocates a zeroed tensor, in as many row parts as the device's binding limit (or the lower `maxPartBytes`) asks for.
   */
  static create(device: Device, label: string, shape: Shape, dtype: TensorDType, options: TensorOptions = {}): Tensor {
    const rows = shape.length === 0 ? 1 : dim(shape, 0);
    const rowElements = numel(shape) / Math.max(rows, 1);
    const parts: TensorPart[] = [];
    try {
      let rowStart = 0;
      for (const piece of options.joined ?? [{ rows, dtype }]) {
        makeParts(device, { label, shape, rowElements, ...options, ...piece, rowStart }, parts);
        rowStart += piece.rows;
      }
      invariant(rowStart === rows, `tensor ${label}: ${rowStart} of ${rows} rows`);
    } catch (error) {
      for (const p of parts) device.destroyBuffer(p.buffer);
      throw error;
    }
    return new Tensor(device, label, shape, dtype, parts);
  }

  /** Allocates and fills a tensor from little-endian data of its dtype (f16 as `Uint16Array` bit patterns). */
  static from(
    device: Device,
    label: string,
    shape: Shape,
    dtype: TensorDType,
    data: ArrayBufferView,
    options?: TensorOptions,
  ): Tensor {
    const tensor = Tensor.create(device, label, shape, dtype, options);
    invariant(
      data.byteLength === numel(shape) * bytesPerElement(dtype),
      `tensor ${label}: data of ${data.byteLength} bytes`,
    );
    tensor.write(0, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
    return tensor;
  }

  get sizeBytes(): number {
    return this.parts.reduce((sum, part) => sum + this.#partBytes(part), 0);
  }

  /** True once {@link dispose} was called, here or on the tensor that this one is a reshape of. */
  get disposed(): boolean {
    return this.#disposed || (this.#base?.disposed ?? false);
  }

  /**
   * The same memory under a shape of as many elements; it is freed with this tensor and not by itself. Throws `SHAPE`, and
   * `LIMIT` if the tensor has several row parts.
   */
  reshape(shape: Shape): Tensor {
    if (numel(shape) !== numel(this.shape)) {
      const got = `${formatShape(this.shape)} as ${formatShape(shape)}`;
      throw shapeError(`tensor ${this.label}`, "a reshape must keep the number of elements", got);
    }
    const [part] = this.parts;
    if (!part || this.parts.length > 1) {
      throw new HeedError("LIMIT", `tensor ${this.label}: has ${this.parts.length} row parts and cannot be reshaped.`);
    }
    const rows = shape.length === 0 ? 1 : dim(shape, 0);
    const reshaped = new Tensor(this.device, this.label, shape, this.dtype, [{ ...part, rows }]);
    reshaped.#base = this;
    return reshaped;
  }

  /** Writes bytes at a byte offset that is a multiple of 4, across parts where need be. A last odd half-word is padded. */
  write(offsetBytes: number, data: Uint8Array<ArrayBufferLike>): void {
    let partEnd = 0;
    for (const part of this.parts) {
      const partStart = partEnd;
      partEnd += this.#partBytes(part);
      const from = Math.max(offsetBytes, partStart);
      const to = Math.min(offsetBytes + data.byteLength, partEnd);
      if (from >= to) continue;
      let chunk = data.subarray(from - offsetBytes, to - offsetBytes);
      if (chunk.byteLength % 4 !== 0) {
        const padded = new Uint8Array(Math.ceil(chunk.byteLength / 4) * 4);
        padded.set(chunk);
        chunk = padded;
      }
      this.device.raw.queue.writeBuffer(
        part.buffer,
        part.offsetBytes + from - partStart,
        chunk as Uint8Array<ArrayBuffer>,
      );
    }
  }

  /** Reads the whole tensor back as bytes. */
  async read(): Promise<ArrayBuffer> {
    const out = new Uint8Array(this.sizeBytes);
    let at = 0;
    for (const part of this.parts) {
      const sizeBytes = this.#partBytes(part);
      const bytes = await this.device.read(part.buffer, part.offsetBytes, sizeBytes);
      out.set(new Uint8Array(bytes), at);
      at += sizeBytes;
    }
    return out.buffer;
  }

  /** Frees the GPU memory. Idempotent. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    if (this.#base) return;
    for (const p of this.parts) this.device.destroyBuffer(p.buffer);
  }

  #partBytes({ rows, dtype }: TensorPart): number {
    const all = this.shape.length === 0 ? 1 : dim(this.shape, 0);
    return all === 0 ? 0 : (numel(this.shape) / all) * rows * bytesPerElement(dtype);
  }
}
