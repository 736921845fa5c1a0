import { defineConfig } from "@playwright/test";
import { provideChromium } from "./test/browser/support/chromium.ts";

const { executablePath, args, env } = await provideChromium();

// `npm test` runs these after Vitest's. One browser at a time: its GPU is the CPU.
export default defineConfig({
  testDir: "test/browser",
  // Pictures are written on request alone: test/browser/pictures.ts.
  testMatch: process.env["HEED_SCREENSHOTS"] ? "**/pictures.ts" : "**/*.spec.ts",
  outputDir: "node_modules/.cache/playwright",
  globalSetup: "./test/browser/support/global_setup.ts",
  workers: 1,
  // These end what hangs, and measure nothing.
  timeout: 300_000,
  expect: { timeout: 60_000 },
  forbidOnly: true,
  use: {
    headless: true,
    viewport: { width: 1280, height: 900 },
    launchOptions: { executablePath, args, env: { ...(process.env as Record<string, string>), ...env } },
  },
});
