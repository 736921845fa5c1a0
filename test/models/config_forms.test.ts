import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { openDecoder } from "../../src/models/registry.ts";
import { readJson } from "../support/assets.ts";
import { GOLDEN_NAMES, goldenPath } from "../support/goldens.ts";

type Fields = Record<string, unknown>;

const newer = (name: (typeof GOLDEN_NAMES)[number]) => join(goldenPath(name), "config_rope_parameters.json");

describe("config.json", () => {
  it.each(GOLDEN_NAMES.filter((name) => existsSync(newer(name))))(
    "%s: rope_theta with rope_scaling, and rope_parameters, mean the same",
    (name) => {
      const [old, young] = [join(goldenPath(name), "config.json"), newer(name)].map((path) =>
        openDecoder(readJson<Fields>(path)),
      );
      expect(young!.facts).toEqual(old!.facts);
      expect(young!.constants(64)).toEqual(old!.constants(64));
      expect(young!.rules).toEqual(old!.rules);
    },
  );
});
