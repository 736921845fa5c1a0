import { describe, expect, it } from "vitest";
import { RECIPE_HELP } from "../../src/cli/train_help.ts";
import { parseRecipe, RECIPE_SCHEMA } from "../../src/train/recipe.ts";
import { runMain } from "../support/cli.ts";

/** What of a schema leads to the names in it. */
interface Schema {
  readonly entries?: Readonly<Record<string, Schema>>;
  readonly options?: readonly unknown[];
  readonly wrapped?: Schema;
}

/** Names of fields, those of objects in them after a dot. */
function namesOf({ entries = {}, options = [], wrapped }: Schema, depth = 2): string[] {
  const own = Object.entries(entries).flatMap(([name, inner]) => [
    name,
    ...(depth > 1 ? namesOf(inner, depth - 1).map((nested) => `${name}.${nested}`) : []),
  ]);
  const others = options.filter((option): option is Schema => typeof option === "object" && option !== null);
  return [...own, ...[...others, ...(wrapped ? [wrapped] : [])].flatMap((inner) => namesOf(inner, depth))];
}

/** The same as the help tells them: a field begins a line, and those in it stand in braces. */
function namesTold(help: string): string[] {
  const [fields = ""] = help.split("\n\nFor example");
  return fields.split(/\n {2}(?=[\w$]+ )/).flatMap((part, i) => {
    if (i === 0) return [];
    const [field = ""] = part.split(" ");
    const [known = part] = part.split("\nand may have");
    const objects = known.match(/\{[^{}]*\}/g) ?? [];
    const nested = objects.flatMap((object) => [...object.matchAll(/[{,]\s*(\w+)(?=[:,}])/g)].map(([, name]) => name));
    return [field, ...nested.map((name) => `${field}.${name}`)];
  });
}

describe("heed train --help", () => {
  it("names every field of a recipe, and no other", () => {
    const sorted = (names: readonly string[]) => [...new Set(names)].sort();
    expect(sorted(namesTold(RECIPE_HELP))).toEqual(sorted(namesOf(RECIPE_SCHEMA as Schema)));
  });

  it("shows a recipe that is understood", () => {
    const [, example = ""] = /For example.*\n([\s\S]*?)\n\n/.exec(RECIPE_HELP) ?? [];
    expect(parseRecipe(JSON.parse(example))).toMatchObject({ task: "lm", output: "run" });
  });

  it("fits two screens", async () => {
    const { code, stdout } = await runMain(["train", "--help"]);
    expect(code).toBe(0);
    const lines = stdout.split("\n");
    expect(lines.length).toBeLessThan(90);
    expect(lines.filter((line) => line.length > 110)).toEqual([]);
  });
});
