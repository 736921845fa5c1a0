import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { createSha256, sha256Hex } from "../../src/sources/hash.ts";

describe("createSha256", () => {
  it.each([0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 1000])("matches another implementation for %i bytes", (length) => {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 7 + length) & 255);
    const hash = createSha256();
    hash.update(bytes);
    expect(hash.digestHex()).toBe(createHash("sha256").update(bytes).digest("hex"));
  });

  it("does not depend on how the input is cut", () => {
    const bytes = Uint8Array.from({ length: 5000 }, (_, i) => (i * 31) & 255);
    const want = createHash("sha256").update(bytes).digest("hex");
    for (const piece of [1, 7, 63, 64, 65, 200]) {
      const hash = createSha256();
      for (let at = 0; at < bytes.length; at += piece) hash.update(bytes.subarray(at, at + piece));
      expect(hash.digestHex()).toBe(want);
    }
  });

  it("gives the standard's example", () => {
    expect(sha256Hex("abc")).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  });
});
