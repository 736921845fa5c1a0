import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { nodeGpu, noAdapter, requestNodeAdapter } from "../../src/gpu/platform_node.ts";
import { hasAdapter } from "../../src/gpu/relaunch_node.ts";
import { ensureBuilt, ROOT } from "../support/built.ts";

describe("nodeGpu", () => {
  it("gives the same object at every call and defines WebGPU's constants", async () => {
    const [first, second] = await Promise.all([nodeGpu(), nodeGpu()]);
    expect(first).toBe(second);
    expect(GPUBufferUsage.STORAGE).toBe(0x80);
    expect(GPUMapMode.READ).toBe(1);
    expect("gpu" in globalThis).toBe(false);
  });

  it("finds an adapter in a test run", async () => {
    const adapter = await requestNodeAdapter();
    expect(adapter.limits.maxStorageBuffersPerShaderStage).toBeGreaterThanOrEqual(8);
  });

  it("lets the process end, with a device in use and after a collection", async () => {
    await ensureBuilt();
    const script = `
      import { Device, nodeGpu } from ${JSON.stringify(`${ROOT}/dist/node.mjs`)};
      const device = await Device.request({ gpu: await nodeGpu() });
      globalThis.gc();
      await new Promise((resolve) => setTimeout(resolve, 50));
      globalThis.gc();
      const buffer = device.createBuffer("b", 16, GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST);
      device.raw.queue.writeBuffer(buffer, 0, Float32Array.of(1, 2, 3, 4));
      console.log(new Float32Array(await device.read(buffer)).join());`;
    const options = { encoding: "utf8", timeout: 120_000, stdio: "pipe" } as const;
    const out = execFileSync(process.execPath, ["--expose-gc", "--input-type=module", "-e", script], options);
    expect(out).toBe("1,2,3,4\n");
  });
});

describe("without a driver", () => {
  it("a fresh process finds no adapter where VK_DRIVER_FILES names none", () => {
    expect(hasAdapter({ VK_DRIVER_FILES: "/nonexistent", LD_LIBRARY_PATH: "" })).toBe(false);
    expect(hasAdapter({})).toBe(true);
  });

  it("the error names the rule, the drivers that were looked at and both installs", () => {
    const { code, message } = noAdapter();
    expect(code).toBe("NO_ADAPTER");
    expect(message).toMatch(/^device: .*; got .*\. Install .*mesa-vulkan-drivers.*@sparticuz\/chromium/);
  });
});
