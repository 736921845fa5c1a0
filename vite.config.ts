import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig, type Plugin } from "vite";
import { shippedModels } from "./build/shipped_models_plugin.ts";
import { wgsl } from "./build/wgsl_plugin.ts";

/** The development server puts styles into the page and talks to it: its policy allows both, the built page's neither. */
const relaxedPolicy: Plugin = {
  name: "heed:development-policy",
  apply: "serve",
  transformIndexHtml: (html, { server }) =>
    server
      ? html.replace("style-src 'self'", "style-src 'self' 'unsafe-inline'").replace("connect-src", "connect-src ws:")
      : html,
};

/** The page has two documents; pages of tests that are built with this configuration under another root have their own. */
const documents: Plugin = {
  name: "heed:documents",
  config: ({ root }) => {
    const input = ["index.html", "conformance.html"].map((file) => `${import.meta.dirname}/demo/${file}`);
    return root === "demo" ? { build: { rolldownOptions: { input } } } : undefined;
  },
};

// The page. Library and command line are tsdown.config.ts.
export default defineConfig({
  root: "demo",
  // Relative, so that the built page works under any path.
  base: "./",
  plugins: [svelte({ configFile: false }), wgsl({ strip: true }), shippedModels(), documents, relaxedPolicy],
  worker: { format: "es", plugins: () => [wgsl({ strip: true })] },
  build: { outDir: "../dist/demo", emptyOutDir: true, target: "es2022" },
});
