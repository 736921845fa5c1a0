import { defineConfig } from "vite";
import { wgsl } from "./build/wgsl_plugin.ts";

// The page. Library and command line are tsdown.config.ts.
export default defineConfig({
  root: "demo",
  // Relative, so that the built page works under any path.
  base: "./",
  plugins: [wgsl({ strip: true })],
  worker: { format: "es", plugins: () => [wgsl({ strip: true })] },
  build: { outDir: "../dist/demo", emptyOutDir: true, target: "es2022" },
});
