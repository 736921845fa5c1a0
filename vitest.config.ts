import { defineConfig } from "vitest/config";
import { wgsl } from "./build/wgsl_plugin.ts";
import { provideAdapter } from "./test/support/launch.ts";

// The workers are forked later and inherit the environment that this sets.
await provideAdapter();

export default defineConfig({
  // Tests see the shaders as they were written, so that a message shows the comment beside the line.
  plugins: [wgsl({ strip: false })],
  test: {
    include: ["test/**/*.test.ts"],
    exclude: ["test/browser/**", "node_modules/**"],
    // A process a file: a crash of the driver takes one file with it, not the run.
    pool: "forks",
    maxWorkers: 2,
    // A machine without a GPU that does other work too is slow: these end what hangs, and measure nothing.
    testTimeout: 300_000,
    hookTimeout: 300_000,
  },
});
