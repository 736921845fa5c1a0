import { describe, expect, it } from "vitest";
import { Device } from "../../src/gpu/device.ts";
import { nodeGpu } from "../../src/gpu/platform_node.ts";

const FAULTY = {
  file: "faulty.wgsl",
  code: "// A comment.\n@compute @workgroup_size(1)\nfn main() {\n  let x = y;\n}\n",
};

describe("a kernel that does not compile", () => {
  it("is reported with file and line, and as nothing else", async () => {
    const device = await Device.request({ gpu: await nodeGpu(), tier: "core" });
    try {
      const variant = { kernel: FAULTY, constants: { TILE: 4 } };
      await expect(device.pipeline(variant)).rejects.toThrow(
        /faulty\(TILE=4\) does not compile:\n {2}shaders\/faulty\.wgsl:4:11: .*y/,
      );
      await device.idle();
    } finally {
      device.dispose();
    }
  });
});
