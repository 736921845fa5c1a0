export { nodeGpu, requestNodeAdapter } from "./gpu/platform_node.ts";
export * from "./index.ts";
