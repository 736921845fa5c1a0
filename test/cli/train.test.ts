import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openCheckpoint } from "../../src/formats/checkpoint.ts";
import { readSafetensorsHeader } from "../../src/formats/safetensors.ts";
import { folderSource } from "../../src/sources/folder_node.ts";
import { listCheckpoints } from "../../src/train/checkpoint_node.ts";
import { uniformGenerator } from "../../src/train/initialise.ts";
import { ensureBuilt, ROOT } from "../support/built.ts";
import { runCli, runMain } from "../support/cli.ts";
import { TINY_RECIPE, TINY_TEXT } from "../train/tiny.ts";

const KILLS = process.env["HEED_LONG"] ? 100 : 5;
/** A kill comes within so long after the first update: about a dozen updates, a few checkpoints. */
const KILL_WITHIN_MS = 400;

const folder = mkdtempSync(join(tmpdir(), "heed-train-"));
const recipe = join(folder, "recipe.json");
// Enough updates that the last kill still meets a run that is not done.
const steps = 30 + KILLS * 15;
const DATA = { text: "text.txt", validation: "held.txt" };

beforeAll(async () => {
  await ensureBuilt();
  writeFileSync(join(folder, "text.txt"), TINY_TEXT);
  // Of the same words in another order: what is learnt of the text by heart is wrong here, so that the best weights are not the last.
  writeFileSync(join(folder, "held.txt"), "log the on cat dog the sat and mat on. the sat the\n".repeat(3));
  const more = { steps, checkpoint: { every: 3, keep: 2 }, dropout: { hidden: 0.1 }, data: DATA };
  const best = { evaluate: { every: 10, keep: "best" }, schedule: { type: "constant", learningRate: 0.02 } };
  writeFileSync(recipe, JSON.stringify({ ...TINY_RECIPE, ...more, ...best }));
});
afterAll(() => rmSync(folder, { recursive: true }));

/** The log without what depends on the clock. */
function readLog(output: string): unknown[] {
  const lines = readFileSync(join(output, "log.jsonl"), "utf8").trimEnd().split("\n");
  return lines.map((line) => ({ ...JSON.parse(line), tokensPerSecond: 0 }));
}

/** Runs `heed train` until `afterMs` after its first update, then kills it; resolves with its exit code, if it came so far. */
function trainAndKill(args: readonly string[], afterMs: number): Promise<number | null> {
  const env = { ...process.env, VITEST: undefined };
  const child = spawn(process.execPath, [`${ROOT}/bin/heed.mjs`, "train", recipe, ...args], { env, stdio: "pipe" });
  let seen = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    const before = /step \d/.test(seen);
    seen += text;
    if (!before && /step \d/.test(seen)) setTimeout(() => child.kill("SIGKILL"), afterMs);
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
}

describe("heed train", () => {
  const whole = join(folder, "whole");

  it(
    "leaves a model that generates, its log, its curves and its checkpoints",
    async () => {
      const { code, stdout, stderr } = await runCli(["train", recipe, "--output", whole, "--json"]);
      expect({ code, stderr: code === 0 ? "" : stderr }).toEqual({ code: 0, stderr: "" });
      const result = JSON.parse(stdout);
      expect(result).toMatchObject({ output: whole, steps });
      expect(result.validationLoss).toBeLessThan(2.5);
      expect(stderr).toMatch(/step \d+\/\d+ · loss \d.*tokens\/s · .* left/);
      expect(stderr).toMatch(/held-out loss \d\.\d+ \(the best so far\)/);
      expect(stderr).toMatch(/held-out loss \d\.\d+ \(best: \d\.\d+ at step \d+\)/);
      expect(result.keptStep).toBe(result.bestStep);
      expect(result.keptStep).toBeLessThan(steps);
      expect(stderr).toContain(`best held-out loss ${result.bestLoss.toFixed(4)} at step ${result.bestStep}, whose`);
      expect(readLog(whole)).toHaveLength(steps);
      expect(readFileSync(join(whole, "curves.svg"), "utf8")).toMatch(/^<svg[\s\S]*<polyline[\s\S]*<\/svg>\n$/);
      expect(JSON.parse(readFileSync(join(whole, "recipe.json"), "utf8")).data).toEqual(DATA);
      const generated = await runCli(["generate", "--model", whole, "--greedy", "--max-tokens", "5", "the cat"]);
      expect(generated.code).toBe(0);
      expect(generated.stdout.trimEnd().length).toBeGreaterThan(0);
    },
    60_000 + KILLS * 12_000,
  );

  it(
    `is killed ${KILLS} times: the newest checkpoint always loads, and the losses are those of a run without kills`,
    async () => {
      const output = join(folder, "killed");
      const checkpoints = join(output, "checkpoints");
      const uniform = uniformGenerator(Number(process.env["HEED_SEED"] ?? 3));
      let kills = 0;
      for (let run = 0; kills < KILLS && run < 3 * KILLS; run++) {
        const found = await listCheckpoints(checkpoints);
        const args = ["--output", output, ...(found.length > 0 ? ["--resume"] : [])];
        const code = await trainAndKill(args, uniform() * KILL_WITHIN_MS);
        if (code === null) kills++;
        const newest = (await listCheckpoints(checkpoints)).at(-1);
        if (newest) {
          const { tensors } = await openCheckpoint(await folderSource(newest.path));
          expect(tensors.size).toBe(28);
          const state = JSON.parse(readFileSync(join(newest.path, "trainer_state.json"), "utf8"));
          expect(state.stepsDone).toBe(newest.step);
          const best = await (await folderSource(newest.path)).open("best.safetensors");
          const { step, loss } = (best && (await readSafetensorsHeader(best)).metadata) ?? {};
          expect(state.best).toEqual(best ? { step: Number(step), loss: Number(loss) } : null);
        }
        if (code === 0) break;
        expect(code).toBe(null);
      }
      expect(kills).toBeGreaterThanOrEqual(Math.min(KILLS, 3));
      const last = (await listCheckpoints(checkpoints)).at(-1);
      const rest = await runCli(["train", recipe, "--output", output, ...(last ? ["--resume"] : [])]);
      expect({ code: rest.code, stderr: rest.code === 0 ? "" : rest.stderr }).toEqual({ code: 0, stderr: "" });
      expect(readLog(output)).toEqual(readLog(whole));
      const [killed, unharmed] = [output, whole].map((path) => readFileSync(join(path, "model.safetensors")));
      expect(killed?.equals(unharmed as Buffer)).toBe(true);
    },
    60_000 + KILLS * 30_000,
  );

  it("writes a checkpoint when it is interrupted, and goes on from it", async () => {
    const output = join(folder, "interrupted");
    const interruptOn = { stream: "stderr", text: /step \d+\/\d+ · loss/ } as const;
    const { code, stderr } = await runCli(["train", recipe, "--output", output], { interruptOn });
    expect(code).toBe(130);
    // A long update may take longer than other work is given before it is ended.
    expect(stderr).toContain("stopping after this update");
    expect((await listCheckpoints(join(output, "checkpoints"))).length).toBeGreaterThan(0);
    const again = await runCli(["train", recipe, "--output", output]);
    expect(again.code).toBe(2);
    expect(again.stderr).toContain("already holds a run");
  });

  it("refuses what it can't honour, before a GPU is looked for", async () => {
    const wrong = join(folder, "wrong.json");
    writeFileSync(wrong, JSON.stringify({ ...TINY_RECIPE, batchSize: 3 }));
    const { code, stderr } = await runMain(["train", wrong]);
    expect(code).toBe(2);
    expect(stderr).toContain("batchSize");
    expect((await runMain(["train", join(folder, "none.json")])).stderr).toContain("must be a JSON file");
    expect(existsSync(join(folder, "out"))).toBe(false);
  });

  it("names the field that leaves bad lines out, and each line that is left out", async () => {
    const lines = ["the cat sat", "the dog sat", "the cat ran"].map((text) => JSON.stringify({ text }));
    writeFileSync(join(folder, "lines.jsonl"), [lines[0], '{"text": 3}', lines[1], "{", lines[2]].join("\n"));
    const path = join(folder, "lines.json");
    const train = async (skipBad: boolean, output: string) => {
      const data = { examples: "lines.jsonl", skipBad };
      writeFileSync(path, JSON.stringify({ ...TINY_RECIPE, data, steps: 1 }));
      return runMain(["train", path, "--output", join(folder, output)]);
    };
    const refused = await train(false, "bad");
    expect(refused.stderr).toMatch(/^heed: data: lines\.jsonl line 2: .*leave bad lines out with data\.skipBad\.$/m);
    expect([refused.code, refused.stderr]).toEqual([1, expect.not.stringContaining("--skip-bad")]);
    const { code, stderr } = await train(true, "skipped");
    expect(code).toBe(0);
    expect(stderr).toMatch(/^heed: data: lines\.jsonl line 2 is left out: must have text/m);
    expect(stderr).toMatch(/^heed: data: lines\.jsonl line 4 is left out: must be JSON/m);
    expect(stderr.match(/2 bad lines of lines\.jsonl were left out: 2, 4$/gm)?.length).toBe(1);
  });

  it("says that there is nothing to resume", async () => {
    const { code, stderr } = await runCli(["train", recipe, "--output", join(folder, "none"), "--resume"]);
    expect(code).toBe(2);
    expect(stderr).toContain("--resume needs a checkpoint; got none");
  });
});
