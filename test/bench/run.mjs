// Runs a benchmark module: `node test/bench/run.mjs linear [arguments]` runs the default export of linear.bench.ts.
import { fileURLToPath } from "node:url";
import { createServer } from "vite";

const [name, ...args] = process.argv.slice(2);
if (!name) {
  console.error("usage: node test/bench/run.mjs <name> [arguments]");
  process.exit(2);
}
const root = fileURLToPath(new URL("../..", import.meta.url));
const server = await createServer({
  root,
  configFile: `${root}vitest.config.ts`,
  optimizeDeps: { noDiscovery: true },
  server: { middlewareMode: true, watch: null, ws: false },
  logLevel: "error",
});
try {
  const { default: bench } = await server.ssrLoadModule(`/test/bench/${name}.bench.ts`);
  await bench(args);
} catch (error) {
  // What is wrong with the arguments needs no stack.
  console.error(error.message?.startsWith("bench: ") ? error.message : error);
  process.exitCode = 2;
}
// Dawn and the server keep threads of their own.
process.exit();
