// `npm run conformance:browsers [-- FOLDER]`: the conformance page in Chromium and in Firefox, and the last line its counts.
import { fileURLToPath } from "node:url";
import { createServer } from "vite";

const root = fileURLToPath(new URL("..", import.meta.url));
const server = await createServer({
  root,
  configFile: `${root}vitest.config.ts`,
  optimizeDeps: { noDiscovery: true },
  server: { middlewareMode: true, watch: null, ws: false },
  logLevel: "error",
});
let code = 1;
try {
  const { conformanceBrowsers } = await server.ssrLoadModule("/test/browser/conformance_browsers.ts");
  code = await conformanceBrowsers(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
}
// The server keeps threads of its own.
process.exit(code);
