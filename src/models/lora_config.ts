import { HeedError } from "../core/errors.ts";
import { isObject, type JsonObject } from "../core/json.ts";
import { type LoraConfig, loraScale } from "./lora.ts";

/** What an adapter_config.json says, layer by layer; paths are the layers' names in the adapter's file, behind `base_model.model.`. */
export interface PublishedLora {
  /** Of layers that no pattern names. */
  readonly config: LoraConfig;
  /** DoRA (Liu et al. 2024): each row of a layer's weight has a length of its own. */
  readonly isDora: boolean;
  /** `rank_pattern` and `alpha_pattern` applied. */
  layer(path: string): { readonly rank: number; readonly scale: number };
  /** Whether PEFT would put matrices beside the layer: `target_modules`, `exclude_modules` and `layers_to_transform`. */
  isTarget(path: string): boolean;
  /** Whether the layer, or one that it is part of, is brought whole: `modules_to_save`. */
  isWhole(path: string): boolean;
}

/**
 * adapter_config.json, checked. Throws `BAD_FILE` for what is malformed, `UNSUPPORTED` for what would be computed otherwise and can't be
 * seen from the tensors.
 */
export function parseLoraConfig(json: JsonObject): PublishedLora {
  const { r, lora_alpha: alpha, lora_dropout: dropout = 0, target_modules: targets } = json;
  if (json["peft_type"] !== "LORA") throw unsupported("peft_type must be LORA", json["peft_type"]);
  for (const [name, fits] of Object.entries(REFUSED)) {
    if (!fits(json[name])) throw unsupported(`${name} must be left at its default`, json[name]);
  }
  if (!isRank(r) || typeof alpha !== "number" || typeof dropout !== "number") {
    throw malformed("must have r, lora_alpha and lora_dropout", [r, alpha, dropout]);
  }
  if (!isNames(targets) && typeof targets !== "string") {
    throw malformed("target_modules must be a list of names or a pattern", targets);
  }
  const config = { rank: r, alpha, dropout, targets, rankStabilized: json["use_rslora"] === true };
  const rankOf = patterned(json, "rank_pattern", isRank);
  const alphaOf = patterned(json, "alpha_pattern", (value): value is number => typeof value === "number");
  const saved = list(json, "modules_to_save");
  const inside = saved.map((name) => pattern(`(?:.*\\.)?${name}(?:\\..*)?`, "modules_to_save"));
  const isInside = (path: string): boolean => inside.some((name) => name.test(path));
  const isNamed = targetRule(json, targets);
  // Then the head that reads an adapted table is adapted alike.
  const tiesHead = json["ensure_weight_tying"] === true;
  return {
    config,
    isDora: json["use_dora"] === true,
    layer(path) {
      const own = { ...config, rank: rankOf(path) ?? r, alpha: alphaOf(path) ?? alpha };
      return { rank: own.rank, scale: loraScale(own) };
    },
    isTarget: (path) => (!isInside(path) && isNamed(path)) || (tiesHead && /^(lm_head|embed_out)$/.test(path)),
    // PEFT takes any end of a name here, not only one after a dot.
    isWhole: (path) => isInside(path) || saved.some((name) => path.endsWith(name)),
  };
}

/** A pattern's number for a path: that of the first key that matches the end of the path after a dot, or all of it. */
function patterned(
  json: JsonObject,
  field: string,
  fits: (value: unknown) => value is number,
): (path: string) => number | undefined {
  const given = json[field] ?? {};
  if (!isObject(given)) throw malformed(`${field} must be an object of numbers by name`, given);
  const entries = Object.entries(given).map(([key, value]) => {
    if (!fits(value)) throw malformed(`${field} must hold numbers that fit`, { [key]: value });
    return { own: pattern(`(?:.*\\.)?(?:${key})`, field), value };
  });
  return (path) => entries.find(({ own }) => own.test(path))?.value;
}

function targetRule(json: JsonObject, targets: readonly string[] | string): (path: string) => boolean {
  const excluded = nameRule(json["exclude_modules"] ?? [], "exclude_modules");
  const isTargeted = targets === "all-linear" ? () => true : nameRule(targets, "target_modules");
  const inLayer = layerRule(json);
  return (path) => isTargeted(path) && !excluded(path) && inLayer(path);
}

/** Names, or ends of them after a dot; one string is a regular expression for the whole name. */
function nameRule(names: unknown, field: string): (path: string) => boolean {
  if (typeof names === "string") {
    const whole = pattern(names, field);
    return (path) => whole.test(path);
  }
  if (!isNames(names)) throw malformed(`${field} must be a list of names or a pattern`, names);
  return (path) => names.some((name) => path === name || path.endsWith(`.${name}`));
}

/** `layers_to_transform`: the number behind one of `layers_pattern`, by default behind the first name that has one. */
function layerRule(json: JsonObject): (path: string) => boolean {
  const given = json["layers_to_transform"] ?? [];
  const layers: unknown[] = Array.isArray(given) ? given : [given];
  if (!layers.every(Number.isSafeInteger)) throw malformed("layers_to_transform must be numbers of layers", given);
  if (layers.length === 0) return () => true;
  const names = list(json, "layers_pattern").filter((name) => name !== "");
  const finders = (names.length > 0 ? names.map((name) => `(?:^|.*?\\.)(?:${name})`) : [".*?\\.[^.]*"]).map((start) =>
    pattern(`${start}\\.(?<layer>\\d+)\\..*`, "layers_pattern"),
  );
  return (path) => {
    const found = finders.map((finder) => finder.exec(path)?.groups?.["layer"]).find((layer) => layer !== undefined);
    return found !== undefined && layers.includes(Number(found));
  };
}

/** A pattern of Python's for a whole name. */
function pattern(source: string, field: string): RegExp {
  try {
    return new RegExp(`^(?:${source.replaceAll("(?P<", "(?<")})$`);
  } catch {
    throw unsupported(`${field} must be regular expressions that JavaScript can read too`, source);
  }
}

function list(json: JsonObject, field: string): string[] {
  const given = json[field] ?? [];
  const names: unknown = typeof given === "string" ? [given] : given;
  if (!isNames(names)) throw malformed(`${field} must be a list of names`, given);
  return names;
}

const isNames = (value: unknown): value is string[] =>
  Array.isArray(value) && value.every((name) => typeof name === "string");

const isRank = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 1;

const isEmpty = (value: unknown): boolean =>
  value === undefined ||
  value === null ||
  value === false ||
  (Array.isArray(value) && value.length === 0) ||
  (isObject(value) && Object.keys(value).length === 0);

/** Ways to begin an adapter that change the base's weights, which then are others than those that were published. */
const CHANGES_BASE = /^(pissa|olora|corda|loftq|lora_ga)/;

/** Settings that change what is computed, and are not known here. */
const REFUSED: Readonly<Record<string, (value: unknown) => boolean>> = {
  target_parameters: isEmpty,
  lora_bias: isEmpty,
  alora_invocation_tokens: isEmpty,
  layer_replication: isEmpty,
  use_qalora: isEmpty,
  use_bdlora: isEmpty,
  arrow_config: isEmpty,
  kasa_config: isEmpty,
  monteclora_config: isEmpty,
  init_lora_weights: (value) => typeof value !== "string" || !CHANGES_BASE.test(value),
};

function unsupported(rule: string, got: unknown): HeedError {
  return new HeedError(
    "UNSUPPORTED",
    `lora: ${rule}; got ${JSON.stringify(got)}. Merge the adapter with PEFT (merge_and_unload) and load the result.`,
  );
}

function malformed(rule: string, got: unknown): HeedError {
  return new HeedError("BAD_FILE", `lora: adapter_config.json ${rule}; got ${JSON.stringify(got)}.`);
}
