import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { Plugin } from "vite";

const MODELS = join(import.meta.dirname, "../models");
/** What a model needs to run; the recipe and the text that it learnt from stay in the repository. */
const FILES = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];

/** Files of the page that the bundler does not name. */
const DOCUMENTS = ["index.html", "conformance.html", "mark.svg"];

/** The models that Heed ships, beside the page: in its build, and from the development server. Pages of tests have none. */
export function shippedModels(): Plugin {
  let isPage = false;
  return {
    name: "heed:shipped-models",
    configResolved({ root }) {
      isPage = root.endsWith("demo");
    },
    generateBundle(_, bundle) {
      if (!isPage) return;
      for (const { path, file } of modelFiles()) {
        this.emitFile({ type: "asset", fileName: `models/${path}`, source: readFileSync(file) });
      }
      // What the service worker keeps: everything, since the page may be asked for any of it when the network is gone.
      const built = Object.keys(bundle).filter((name) => !name.endsWith(".html"));
      const models = modelFiles().map(({ path }) => `models/${path}`);
      const files = [...new Set(["./", ...DOCUMENTS, ...built, ...models])];
      this.emitFile({ type: "asset", fileName: "offline.json", source: JSON.stringify(files) });
    },
    configureServer(server) {
      server.middlewares.use("/models", (request, response, next) => {
        const wanted = decodeURIComponent((request.url ?? "").replace(/[?#].*$/, "")).replace(/^\//, "");
        const found = modelFiles().find(({ path }) => path === wanted);
        if (!found) return next();
        response.setHeader("content-type", wanted.endsWith(".json") ? "application/json" : "application/octet-stream");
        response.end(readFileSync(found.file));
      });
    },
  };
}

/** Each file of each whole model: its path below `models/`, and where it is. */
function modelFiles(): { path: string; file: string }[] {
  if (!existsSync(MODELS)) return [];
  return readdirSync(MODELS)
    .filter((name) => existsSync(join(MODELS, name, "model.safetensors")))
    .flatMap((name) => FILES.map((file) => ({ path: `${name}/${file}`, file: join(MODELS, name, file) })))
    .filter(({ file }) => existsSync(file));
}
