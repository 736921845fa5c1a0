/** A token of the text that a model reads, as the page shows it. */
export interface TokenText {
  readonly id: number;
  readonly text: string;
}

/** The weights of one layer: `[heads, queries, keys]`, row-major. */
export interface LayerWeights {
  readonly layer: number;
  readonly heads: number;
  /** Positions of the query rows. */
  readonly queries: readonly number[];
  readonly keys: number;
  readonly weights: Float32Array;
}

/**
 * What may be seen by what; it is drawn apart from weights that are merely small. `causal`: what came before, and the first `prefix` tokens
 * each other both ways; `none`: everything but the last `padding` keys, which are no part of the text.
 */
export type Mask =
  | { readonly kind: "causal"; readonly prefix?: number }
  | { readonly kind: "none"; readonly padding?: number };

/**
 * The attention weights that the page knows: for each layer, head and query one row of weights over the keys. Rows come
 * all at once from a forward pass, or one by one while a text is written.
 */
export class AttentionMaps {
  readonly layers: number;
  readonly heads: number;
  readonly mask: Mask;
  readonly queryTokens: TokenText[];
  readonly keyTokens: TokenText[];
  readonly #rows = new Map<number, Float32Array>();

  /** Without `keyTokens` the rows attend to their own tokens. */
  constructor(
    sizes: { readonly layers: number; readonly heads: number },
    mask: Mask,
    queryTokens: readonly TokenText[],
    keyTokens?: readonly TokenText[],
  ) {
    this.layers = sizes.layers;
    this.heads = sizes.heads;
    this.mask = mask;
    this.queryTokens = [...queryTokens];
    this.keyTokens = keyTokens ? [...keyTokens] : this.queryTokens;
  }

  /** Takes the rows of a layer. */
  add({ layer, heads, queries, keys, weights }: LayerWeights): void {
    for (let h = 0; h < heads; h++) {
      queries.forEach((query, i) => {
        const at = (h * queries.length + i) * keys;
        this.#rows.set(this.#key(layer, h, query), weights.slice(at, at + keys));
      });
    }
  }

  /** The weights of a query over the keys, as far as they are known. */
  row(layer: number, head: number, query: number): Float32Array | undefined {
    return this.#rows.get(this.#key(layer, head, query));
  }

  weight(layer: number, head: number, query: number, key: number): number | undefined {
    return this.row(layer, head, query)?.[key];
  }

  /** True where the mask lets a query see a key. */
  visible(query: number, key: number): boolean {
    return key < this.visibleKeys(query);
  }

  /** So many first keys are seen by a query. */
  visibleKeys(query: number): number {
    const { mask } = this;
    const keys = this.keyTokens.length;
    if (mask.kind === "none") return keys - (mask.padding ?? 0);
    const prefix = mask.prefix ?? 0;
    return Math.min(keys, query < prefix ? prefix : query + 1);
  }

  /** Queries whose rows are known for a layer. */
  known(layer: number): number[] {
    return this.queryTokens.map((_, query) => query).filter((query) => this.row(layer, 0, query) !== undefined);
  }

  /** Mean entropy of a head's rows in nats: 0 where every row looks at one key. */
  entropy(layer: number, head: number): number {
    let sum = 0;
    let rows = 0;
    for (const query of this.known(layer)) {
      for (const p of this.row(layer, head, query) ?? []) if (p > 0) sum -= p * Math.log(p);
      rows++;
    }
    return rows > 0 ? sum / rows : 0;
  }

  /** Everything of one head, for a file. */
  toJSON(layer: number, head: number): object {
    const queries = this.known(layer);
    return {
      ...{ layer, head, mask: this.mask, queries },
      queryTokens: this.queryTokens,
      keyTokens: this.keyTokens,
      weights: queries.map((query) => [...(this.row(layer, head, query) ?? [])]),
    };
  }

  #key(layer: number, head: number, query: number): number {
    return (query * this.layers + layer) * this.heads + head;
  }
}
