/** What of a valibot issue its wording takes. */
export interface Fault {
  readonly type: string;
  readonly expected: string | null;
  readonly received: string;
  readonly message: string;
  readonly path?: readonly { readonly key: unknown }[] | undefined;
}

/** Values are shown to this many characters. */
const MOST_SHOWN = 80;

/** What a schema finds wrong with an object, a clause for each field: `steps is missing; batch must be >=1, got 0`. `whole` names the object itself. */
export function describeFaults(issues: readonly Fault[], whole: string): string {
  return issues.map((issue) => describeFault(issue, whole)).join("; ");
}

function describeFault({ type, expected, received, message, path = [] }: Fault, whole: string): string {
  const name = path.map(({ key }) => String(key)).join(".") || whole;
  if (expected === "never") return `${name} is not known`;
  if (received === "undefined") {
    // Of a field that is missing altogether the schema names the key instead of its type.
    const kind = expected === null || expected.startsWith('"') ? "" : ` (${expected})`;
    return `${name} is missing${kind}`;
  }
  if (expected === null) {
    if (type === "integer" || type === "safe_integer")
      return `${name} must be a whole number, got ${received.slice(0, MOST_SHOWN)}`;
    return `${name}: ${message.replace(/^Invalid /, "invalid ")}`;
  }
  return `${name} must be ${expected}, got ${received.slice(0, MOST_SHOWN)}`;
}
