import { HeedError } from "../core/errors.ts";
import { ropeTable } from "../ops/rope.ts";

/** How positions turn into angles. `theta` is the base; the variants are those of the Hub's `rope_scaling`. */
export interface RotaryConfig {
  /** Channels that are rotated, at most the head size; even. */
  readonly rotaryDim: number;
  readonly theta: number;
  readonly scaling?: RotaryScaling;
}

export type RotaryScaling =
  | { readonly type: "linear"; readonly factor: number }
  | {
      readonly type: "llama3";
      readonly factor: number;
      readonly lowFreqFactor: number;
      readonly highFreqFactor: number;
      readonly originalPositions: number;
    }
  | {
      readonly type: "yarn";
      readonly factor: number;
      readonly originalPositions: number;
      readonly betaFast: number;
      readonly betaSlow: number;
      /** Factor on cos and sin; by default 0.1·ln(factor) + 1 (YaRN §3.4). */
      readonly attentionFactor?: number;
      readonly truncate: boolean;
    }
  | {
      readonly type: "longrope";
      /** `[rotaryDim / 2]`: what divides the angles of contexts of at most `originalPositions`, and of longer ones. */
      readonly shortFactor: readonly number[];
      readonly longFactor: readonly number[];
      readonly originalPositions: number;
      /** Factor on cos and sin. */
      readonly attentionFactor: number;
    };

/**
 * Angles per position, `[rotaryDim / 2]` in float64: θ^(−2i/d) (RoFormer §3.2.2), scaled as the variant says:
 * linear interpolation, the Llama 3 bands, YaRN's ramp (arXiv 2309.00071, §3.2), or LongRoPE's factors (arXiv 2402.13753, §3.1)
 * for contexts of so many `positions`.
 */
export function inverseFrequencies(config: RotaryConfig, positions = 0): Float64Array {
  const { rotaryDim: d, theta, scaling } = config;
  const base = Float64Array.from({ length: d / 2 }, (_, i) => theta ** ((-2 * i) / d));
  if (!scaling) return base;
  switch (scaling.type) {
    case "linear":
      return base.map((f) => f / scaling.factor);
    case "llama3":
      return base.map((f) => scaleLlama3(f, scaling));
    case "yarn":
      return scaleYarn(base, config, scaling);
    case "longrope": {
      const factors = positions > scaling.originalPositions ? scaling.longFactor : scaling.shortFactor;
      return base.map((f, i) => f / (factors[i] as number));
    }
  }
}

function scaleLlama3(f: number, s: Extract<RotaryScaling, { type: "llama3" }>): number {
  const wavelength = (2 * Math.PI) / f;
  if (wavelength < s.originalPositions / s.highFreqFactor) return f;
  if (wavelength > s.originalPositions / s.lowFreqFactor) return f / s.factor;
  const smooth = (s.originalPositions / wavelength - s.lowFreqFactor) / (s.highFreqFactor - s.lowFreqFactor);
  return ((1 - smooth) * f) / s.factor + smooth * f;
}

function scaleYarn(
  base: Float64Array,
  config: RotaryConfig,
  s: Extract<RotaryScaling, { type: "yarn" }>,
): Float64Array {
  const d = config.rotaryDim;
  // The channel at which a wave turns `rotations` times within the original context.
  const channel = (rotations: number) =>
    (d * Math.log(s.originalPositions / (rotations * 2 * Math.PI))) / (2 * Math.log(config.theta));
  const round = (x: number, how: (x: number) => number) => (s.truncate ? how(x) : x);
  const low = Math.max(round(channel(s.betaFast), Math.floor), 0);
  const high = Math.min(round(channel(s.betaSlow), Math.ceil), d - 1);
  const width = high === low ? 0.001 : high - low;
  return base.map((f, i) => {
    const ramp = Math.min(1, Math.max(0, (i - low) / width));
    return (f / s.factor) * ramp + f * (1 - ramp);
  });
}

/** Factor on cos and sin: 1, but for YaRN and LongRoPE. */
export function rotaryMagnitude(scaling: RotaryScaling | undefined): number {
  if (scaling?.type === "longrope") return scaling.attentionFactor;
  if (scaling?.type !== "yarn") return 1;
  return scaling.attentionFactor ?? (scaling.factor <= 1 ? 1 : 0.1 * Math.log(scaling.factor) + 1);
}

/** `[positions, rotaryDim / 2, 2]`: cos and sin of each angle. */
export function rotaryTable(config: RotaryConfig, positions: number): Float32Array {
  return ropeTable({
    maxPositions: positions,
    inverseFrequencies: inverseFrequencies(config, positions),
    factor: rotaryMagnitude(config.scaling),
  });
}

/** The fields of a Hub config that say how positions are encoded, in the older and the newer form. */
export interface HubRope {
  readonly rope_theta?: number;
  readonly rope_scaling?: Readonly<Record<string, unknown>> | null;
  readonly rope_parameters?: Readonly<Record<string, unknown>> | null;
  readonly max_position_embeddings: number;
  /** Positions of training, before they were stretched; `rope_parameters` may say it instead. */
  readonly original_max_position_embeddings?: number;
  /** Share of the head's channels that turn, unless `rope_parameters` says it; default 1. */
  readonly partial_rotary_factor?: number;
}

/** Reads `rope_theta` with `rope_scaling`, or `rope_parameters`. Throws `UNSUPPORTED` for a variant that Heed lacks. */
export function rotaryFromHub(family: string, hub: HubRope, headDim: number): RotaryConfig {
  const fields = hub.rope_parameters ?? hub.rope_scaling ?? {};
  const partial = numberOf(fields, "partial_rotary_factor") ?? hub.partial_rotary_factor ?? 1;
  const rotaryDim = Math.floor(headDim * partial);
  if (rotaryDim < 2 || rotaryDim > headDim || rotaryDim % 2 !== 0) {
    throw new HeedError(
      "UNSUPPORTED",
      `${family}: an even number of a head's ${headDim} channels must turn; got ${rotaryDim} by partial_rotary_factor ${partial} in config.json.`,
    );
  }
  const theta = numberOf(fields, "rope_theta") ?? hub.rope_theta ?? 10000;
  const type = fields.rope_type ?? fields.type ?? "default";
  const need = (name: string): number => {
    const value = numberOf(fields, name);
    if (value === undefined)
      throw new HeedError("BAD_FILE", `${family}: rope type "${String(type)}" needs ${name} in config.json`);
    return value;
  };
  const original = () =>
    numberOf(fields, "original_max_position_embeddings") ??
    hub.original_max_position_embeddings ??
    hub.max_position_embeddings;
  switch (type) {
    case "default":
    // Dynamic NTK only changes positions past max_position_embeddings, where Heed's context ends.
    case "dynamic":
      return { rotaryDim, theta };
    case "linear":
      return { rotaryDim, theta, scaling: { type: "linear", factor: need("factor") } };
    case "llama3":
      return {
        rotaryDim,
        theta,
        scaling: {
          type: "llama3",
          factor: need("factor"),
          lowFreqFactor: need("low_freq_factor"),
          highFreqFactor: need("high_freq_factor"),
          originalPositions: original(),
        },
      };
    case "yarn":
      return { rotaryDim, theta, scaling: yarnFromHub(fields, need("factor"), original()) };
    case "longrope":
      return {
        rotaryDim,
        theta,
        scaling: longFromHub(family, fields, {
          rotaryDim,
          positions: hub.max_position_embeddings,
          original: original(),
        }),
      };
    default:
      throw new HeedError(
        "UNSUPPORTED",
        `${family}: rope type "${String(type)}" in config.json is not supported; Heed has default, linear, dynamic, llama3, yarn and longrope.`,
      );
  }
}

function yarnFromHub(
  fields: Readonly<Record<string, unknown>>,
  factor: number,
  originalPositions: number,
): RotaryScaling {
  const mscale = numberOf(fields, "mscale");
  const mscaleAllDim = numberOf(fields, "mscale_all_dim");
  const magnitude = (m: number) => (factor <= 1 ? 1 : 0.1 * m * Math.log(factor) + 1);
  return {
    type: "yarn",
    factor,
    originalPositions,
    betaFast: numberOf(fields, "beta_fast") ?? 32,
    betaSlow: numberOf(fields, "beta_slow") ?? 1,
    attentionFactor:
      numberOf(fields, "attention_factor") ??
      (mscale && mscaleAllDim ? magnitude(mscale) / magnitude(mscaleAllDim) : undefined),
    truncate: fields.truncate !== false,
  };
}

/** The factors of each pair of channels; the factor on cos and sin is √(1 + ln s / ln L) unless it is given. */
function longFromHub(
  family: string,
  fields: Readonly<Record<string, unknown>>,
  { rotaryDim, positions, original }: { rotaryDim: number; positions: number; original: number },
): RotaryScaling {
  const factors = (name: string): number[] => {
    const list = fields[name];
    const isFit = Array.isArray(list) && list.length === rotaryDim / 2;
    if (isFit && list.every((f) => typeof f === "number" && f > 0)) return list;
    throw new HeedError(
      "BAD_FILE",
      `${family}: rope type "longrope" needs ${name} with ${rotaryDim / 2} numbers above 0, one for each pair of channels. Check config.json.`,
    );
  };
  const stretch = numberOf(fields, "factor") ?? positions / original;
  return {
    type: "longrope",
    shortFactor: factors("short_factor"),
    longFactor: factors("long_factor"),
    originalPositions: original,
    attentionFactor:
      numberOf(fields, "attention_factor") ??
      (stretch <= 1 ? 1 : Math.sqrt(1 + Math.log(stretch) / Math.log(original))),
  };
}

function numberOf(fields: Readonly<Record<string, unknown>>, name: string): number | undefined {
  const value = fields[name];
  return typeof value === "number" ? value : undefined;
}
