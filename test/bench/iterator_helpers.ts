/** Adds the iterator helpers that jax-js calls and Node 20 lacks. */
export function addIteratorHelpers(): void {
  const prototype = Object.getPrototypeOf(Object.getPrototypeOf([][Symbol.iterator]())) as Record<string, unknown>;
  prototype["map"] ??= function* <T, U>(this: Iterable<T>, f: (value: T) => U) {
    for (const value of this) yield f(value);
  };
  prototype["filter"] ??= function* <T>(this: Iterable<T>, f: (value: T) => boolean) {
    for (const value of this) if (f(value)) yield value;
  };
  prototype["toArray"] ??= function <T>(this: Iterable<T>) {
    return [...this];
  };
}
