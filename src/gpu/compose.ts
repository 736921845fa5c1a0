import { HeedError, invariant } from "../core/errors.ts";

/** A `.wgsl` file as a person wrote it: its path below `shaders/` and its text. */
export interface Shader {
  readonly file: string;
  readonly code: string;
}

/**
 * One specialisation of a kernel: the file, the parts that it is linked with, and the generated header.
 * What changes from call to call is no part of it: that goes into the kernel's `Params` uniform.
 */
export interface KernelVariant {
  readonly kernel: Shader;
  /** Files of `shaders/lib/` that define functions or aliases the kernel uses; the order does not matter to WGSL. */
  readonly parts?: readonly Shader[];
  /** Header constants: numbers become `u32`, booleans `bool`. Register tiles and head sizes live here. */
  readonly constants?: Readonly<Record<string, number | boolean>>;
  /** Extensions that the composed text needs. */
  readonly enable?: readonly ("f16" | "subgroups")[];
  /** Pipeline-overridable constants: workgroup sizes and workgroup arrays only. */
  readonly overrides?: Readonly<Record<string, number>>;
}

/** A storage or uniform binding that the kernel declares. */
export interface KernelBinding {
  readonly name: string;
  readonly binding: number;
  readonly access: "read" | "read_write" | "uniform";
}

/** A field of the kernel's `Params` struct, in order; every field is one 4-byte scalar. */
export interface ParamField {
  readonly name: string;
  readonly type: "u32" | "i32" | "f32";
}

/** The text handed to the WebGPU compiler, with what the host needs to know of it. */
export interface ComposedShader {
  readonly code: string;
  readonly bindings: readonly KernelBinding[];
  readonly params: readonly ParamField[];
  /** Where a line of `code` (1-based) was written. */
  locate(line: number): { file: string; line: number };
}

const BINDING =
  /@group\(0\)\s*@binding\((\d+)\)\s*var<\s*(uniform|storage)\s*(?:,\s*(read|read_write)\s*)?>\s*(\w+)\s*:/g;
const PARAMS = /struct\s+Params\s*\{([^}]*)\}/;

/** Joins header, parts and kernel into one module. This is the only place that generates WGSL text. */
export function composeShader(variant: KernelVariant): ComposedShader {
  const files: Shader[] = [
    { file: "<header>", code: composeHeader(variant) },
    ...(variant.parts ?? []),
    variant.kernel,
  ];
  const starts: { file: string; start: number }[] = [];
  let code = "";
  let line = 1;
  for (const f of files) {
    starts.push({ file: f.file, start: line });
    const text = f.code.endsWith("\n") ? f.code : `${f.code}\n`;
    code += text;
    line += text.split("\n").length - 1;
  }
  const plain = stripComments(code);
  return {
    code,
    bindings: readBindings(plain, variant.kernel.file),
    params: readParams(plain, variant.kernel.file),
    locate(at) {
      let found = starts[0];
      for (const s of starts) if (s.start <= at) found = s;
      invariant(found, "composed shader has no files");
      return { file: found.file, line: at - found.start + 1 };
    },
  };
}

/** A text that tells two variants apart; also the pipeline's label. */
export function variantKey(variant: KernelVariant): string {
  const { kernel, parts = [], constants = {}, overrides = {} } = variant;
  const spec = [
    ...parts.map((p) => p.file.replace(/^lib\//, "").replace(/\.wgsl$/, "")),
    ...Object.entries(constants).map(([k, v]) => `${k}=${v}`),
    ...Object.entries(overrides).map(([k, v]) => `${k}:${v}`),
  ];
  return `${kernel.file.replace(/\.wgsl$/, "")}(${spec.join(",")})`;
}

function composeHeader({ enable = [], constants = {} }: KernelVariant): string {
  return [
    ...[...new Set(enable)].map((e) => `enable ${e};`),
    ...Object.entries(constants).map(([name, value]) =>
      typeof value === "boolean" ? `const ${name}: bool = ${value};` : `const ${name}: u32 = ${value}u;`,
    ),
    "",
  ].join("\n");
}

function stripComments(code: string): string {
  return code.replace(/\/\/[^\n]*/g, "").replace(/\/\*[\s\S]*?\*\//g, "");
}

function readBindings(code: string, file: string): KernelBinding[] {
  const bindings: KernelBinding[] = [];
  for (const m of code.matchAll(BINDING)) {
    const [, index, space, access, name] = m;
    invariant(index && name, `${file}: a binding could not be read`);
    bindings.push({
      name,
      binding: Number(index),
      access: space === "uniform" ? "uniform" : access === "read_write" ? "read_write" : "read",
    });
  }
  const indices = new Set(bindings.map((b) => b.binding));
  invariant(indices.size === bindings.length, `${file}: two bindings share an index`);
  return bindings.sort((a, b) => a.binding - b.binding);
}

function readParams(code: string, file: string): ParamField[] {
  const body = PARAMS.exec(code)?.[1];
  if (body === undefined) return [];
  return body
    .split(",")
    .map((f) => f.trim())
    .filter((f) => f !== "")
    .map((f) => {
      const [name, type] = f.split(":").map((s) => s.trim());
      if (!name || (type !== "u32" && type !== "i32" && type !== "f32")) {
        throw new HeedError("INTERNAL", `${file}: Params fields must be u32, i32 or f32 scalars; got "${f}"`);
      }
      return { name, type };
    });
}

/** Packs named values into the bytes of the `Params` struct; a missing or surplus name is a defect. */
export function packParams(
  fields: readonly ParamField[],
  values: Readonly<Record<string, number>>,
  label: string,
): ArrayBuffer {
  const bytes = new ArrayBuffer(Math.max(16, Math.ceil((fields.length * 4) / 16) * 16));
  const view = new DataView(bytes);
  for (const name of Object.keys(values)) {
    invariant(
      fields.some((f) => f.name === name),
      `${label}: Params has no field "${name}"`,
    );
  }
  fields.forEach(({ name, type }, i) => {
    const value = values[name];
    invariant(value !== undefined, `${label}: no value for Params.${name}`);
    if (type === "f32") view.setFloat32(i * 4, value, true);
    else if (type === "i32") view.setInt32(i * 4, value, true);
    else {
      invariant(
        Number.isInteger(value) && value >= 0 && value <= 0xffffffff,
        `${label}: Params.${name} = ${value} is no u32`,
      );
      view.setUint32(i * 4, value, true);
    }
  });
  return bytes;
}
