import { readdirSync } from "node:fs";
import { ROOT } from "../support/built.ts";
import { expect, openOpsPage, test } from "./support/page_test.ts";

// The bodies that Vitest runs in Node, in the browser. One test a file and tier: a test a case would need the cases, and
// so the shaders, in Playwright's own process.
const files = readdirSync(`${ROOT}/test/ops`).filter((name) => name.endsWith(".cases.ts"));

for (const tier of ["core", "subgroups"] as const) {
  for (const file of files) {
    test(`${file} on tier ${tier}`, async ({ page, server }, info) => {
      await openOpsPage(page, server);
      const results = await page.evaluate(({ file, tier }) => globalThis.opsPage.run(file, tier), { file, tier });
      const ms = Math.round(results.reduce((sum, { elapsedMs }) => sum + elapsedMs, 0));
      info.annotations.push({ type: "cases", description: `${results.length} in ${ms} ms` });
      const failures = results.flatMap(({ name, error }) => (error === undefined ? [] : [`${name}: ${error}`]));
      expect(failures).toEqual([]);
      // A file may be about tiers that this browser lacks; then it has no case here.
      test.skip(results.length === 0, `${file} has no case for tier ${tier}`);
    });
  }
}
