/** Pieces by their UTF-16 code units, to find all that a text has at a place. */
export class PieceTrie {
  readonly #children: Map<number, number>[] = [new Map()];
  readonly #values: (number | undefined)[] = [undefined];

  /** The first of two equal pieces stays. */
  add(piece: string, value: number): void {
    let node = 0;
    for (let i = 0; i < piece.length; i++) {
      const children = this.#children[node] as Map<number, number>;
      const unit = piece.charCodeAt(i);
      let child = children.get(unit);
      if (child === undefined) {
        child = this.#children.length;
        children.set(unit, child);
        this.#children.push(new Map());
        this.#values.push(undefined);
      }
      node = child;
    }
    this.#values[node] ??= value;
  }

  /** Calls `found` for each piece that begins at `start`, shortest first, with the place behind it. */
  prefixes(text: string, start: number, found: (end: number, value: number) => void): void {
    let node = 0;
    for (let i = start; i < text.length; i++) {
      const child = this.#children[node]?.get(text.charCodeAt(i));
      if (child === undefined) return;
      node = child;
      const value = this.#values[node];
      if (value !== undefined) found(i + 1, value);
    }
  }
}
