/**
 * A benchmark's arguments by their names: `rounds=7`, `--rounds=7`, or `--peers` alone for an empty value.
 * Throws for a name that it has not, so that nothing is measured that was not asked for.
 */
export function benchOptions<Name extends string>(
  args: readonly string[],
  names: readonly Name[],
): Readonly<Partial<Record<Name, string>>> {
  const options: Partial<Record<Name, string>> = {};
  for (const arg of args) {
    const [given = "", ...value] = arg.replace(/^--/, "").split("=");
    const name = names.find((known) => known === given);
    if (name === undefined) throw new Error(`bench: its arguments are ${names.join(", ")}; got "${arg}"`);
    options[name] = value.join("=");
  }
  return options;
}

/** Of a peer's names those that were asked for: all for an empty value. Throws for another one. */
export function chosen<Name extends string>(value: string | undefined, known: readonly Name[]): Name[] {
  if (!value) return [...known];
  return value.split(",").map((given) => {
    const name = known.find((one) => one === given);
    if (name === undefined) throw new Error(`bench: one of ${known.join(", ")} is needed; got "${given}"`);
    return name;
  });
}
