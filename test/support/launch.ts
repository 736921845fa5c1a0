import { chooseSoftwareGpu, hasAdapter } from "../../src/gpu/relaunch_node.ts";

/**
 * Gives the processes that are started from here an adapter, where they would have none: the Vulkan
 * loader reads its variables when a process starts. Where no software GPU works either, nothing
 * changes, and every test on the GPU fails with `NO_ADAPTER`. Resolves with what was chosen.
 */
export async function provideAdapter(): Promise<string> {
  if (hasAdapter({})) return "the adapter that Dawn finds";
  const software = await chooseSoftwareGpu();
  if (!software) return "no adapter at all";
  Object.assign(process.env, software.environment);
  return software.name;
}
