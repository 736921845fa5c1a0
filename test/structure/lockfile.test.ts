import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { ROOT } from "../support/built.ts";

interface LockedPackage {
  version?: string;
  resolved?: string;
  optionalDependencies?: Record<string, string>;
}

const lock = JSON.parse(readFileSync(`${ROOT}/package-lock.json`, "utf8")) as {
  packages: Record<string, LockedPackage>;
};

describe("package-lock.json", () => {
  it("names the packages of every platform, as npm ci refuses a lockfile that does not", () => {
    const missing = Object.entries(lock.packages).flatMap(([at, { optionalDependencies = {} }]) =>
      Object.keys(optionalDependencies)
        .filter((name) => !isLocked(at, name))
        .map((name) => `${at} needs ${name}`),
    );
    expect(missing).toEqual([]);
  });

  it("names no registry", () => {
    expect(Object.values(lock.packages).filter((entry) => entry.resolved?.startsWith("http"))).toEqual([]);
  });
});

/** True if `name`, required from the folder `at`, is found there or further up. */
function isLocked(at: string, name: string): boolean {
  for (let base = at; ; base = base.slice(0, Math.max(0, base.lastIndexOf("node_modules/") - 1))) {
    if (lock.packages[`${base === "" ? "" : `${base}/`}node_modules/${name}`]) return true;
    if (base === "") return false;
  }
}
