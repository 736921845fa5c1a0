import { invariant } from "../core/errors.ts";
import { formatTensor, shapeError } from "../core/shape.ts";
import type { KernelVariant, Shader } from "../gpu/compose.ts";
import type { GpuFacts } from "../gpu/device.ts";
import { reducePart } from "./reduce.ts";
import { type Inputs, rowLayout, shader, spreadWorkgroups, type Value, type Workgroups } from "./op.ts";
import elemF32 from "../../shaders/lib/elem_f32.wgsl";
import elemVec4 from "../../shaders/lib/elem_vec4.wgsl";
import reduceAlone from "../../shaders/lib/reduce_alone.wgsl";

/** A part that defines `Elem`, and how many f32 one has. */
export interface ElemChoice {
  readonly part: Shader;
  readonly width: 1 | 4;
}

/** `vec4<f32>` where every width, offset and stride is a multiple of four, else `f32`. */
export function elemPart(...sizes: readonly number[]): ElemChoice {
  return sizes.every((s) => s % 4 === 0)
    ? { part: shader("lib/elem_vec4.wgsl", elemVec4), width: 4 }
    : { part: shader("lib/elem_f32.wgsl", elemF32), width: 1 };
}

/** How the rows of a reduction over columns are given to invocations. */
export interface RowChoice {
  /** To be merged into the kernel's variant. */
  readonly variant: Pick<KernelVariant, "parts" | "constants" | "enable" | "overrides">;
  readonly workgroups: Workgroups;
}

const ALONE_SIZE = 8;

/**
 * Defines `workgroup_sum`, `workgroup_max`, `WORKGROUP_SIZE` and `ROW_LANES` for kernels that reduce each of `rows` rows
 * over `columns` elements: a workgroup a row on GPUs, an invocation a row on CPU adapters.
 */
export function rowReduction(facts: GpuFacts, rows: number, columns: number): RowChoice {
  if (facts.software) {
    return {
      variant: {
        parts: [shader("lib/reduce_alone.wgsl", reduceAlone)],
        constants: { WORKGROUP_SIZE: ALONE_SIZE, ROW_LANES: 1 },
      },
      workgroups: spreadWorkgroups(Math.ceil(rows / ALONE_SIZE)),
    };
  }
  const size = columns > 512 ? 256 : 64;
  const { parts, enable } = reducePart(facts);
  return {
    variant: { parts, enable, constants: { WORKGROUP_SIZE: size, ROW_LANES: size } },
    workgroups: spreadWorkgroups(rows),
  };
}

/** Rows and columns of a value `[N, C]`; throws `SHAPE` in the name of `op` for any other rank or dtype. */
export function rowsAndColumns(op: string, name: string, value: Value | undefined): { rows: number; columns: number } {
  if (!value) throw shapeError(op, `${name} must be given`, "nothing");
  const [rows, columns] = value.shape;
  if (value.shape.length !== 2 || rows === undefined || columns === undefined || value.dtype !== "f32") {
    throw shapeError(op, `${name} must be [N, C] f32`, formatTensor(name, value));
  }
  return { rows, columns };
}

/** Offset and stride of a value's rows counted in elements of `width` f32. */
export function layoutIn(value: Value, width: number): { offset: number; rowStride: number } {
  const { offset, rowStride } = rowLayout(value);
  return { offset: offset / width, rowStride: rowStride / width };
}

/** An input that the op's shape rule has made sure of. */
export function need(inputs: Inputs, name: string): Value {
  const value = inputs[name];
  invariant(value, `input ${name} is missing`);
  return value;
}
