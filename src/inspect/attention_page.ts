import { PAGE_SCRIPT, PAGE_STYLE } from "./attention_page_parts.ts";

/** One kind of attention of a run: rows of `queries`, columns of `keys`. */
export interface AttentionPart {
  /** Such as `Self-attention`. */
  readonly title: string;
  /** Texts of the tokens that attend, and of those attended to. */
  readonly queries: readonly string[];
  readonly keys: readonly string[];
  readonly layers: readonly {
    readonly layer: number;
    readonly heads: readonly {
      readonly head: number;
      /** `[queries, keys]` */
      readonly weights: Float32Array;
      /** Mean over the queries, in nats. */
      readonly entropy: number;
    }[];
  }[];
}

/** What {@link attentionPage} shows. */
export interface AttentionPageOptions {
  /** The model's name or place. */
  readonly model: string;
  readonly parts: readonly AttentionPart[];
  /** Likeliest next tokens with their probabilities. */
  readonly next?: readonly { readonly text: string; readonly probability: number }[];
}

/** Weights are kept as whole parts of this: 16 bits tell 0.00002 apart. */
const WHOLE = 65535;

/**
 * One self-contained HTML page: for each part the heads of all layers as small maps with their entropies, and one of them large
 * with its tokens. It loads nothing, its policy forbids everything but its own script and style, and all text is data.
 */
export async function attentionPage({ model, parts, next = [] }: AttentionPageOptions): Promise<string> {
  const data = {
    model,
    next,
    whole: WHOLE,
    parts: parts.map(({ title, queries, keys, layers }) => ({
      ...{ title, queries, keys },
      layers: layers.map(({ layer, heads }) => ({
        layer,
        heads: heads.map(({ head, weights, entropy }) => ({ head, entropy, weights: packed(weights) })),
      })),
    })),
  };
  const policy = `default-src 'none'; script-src '${await hash(PAGE_SCRIPT)}'; style-src '${await hash(PAGE_STYLE)}'; base-uri 'none'; form-action 'none'`;
  // A script element ends at its end tag wherever that stands.
  const json = JSON.stringify(data).replaceAll("<", "\\u003c");
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="${policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>Attention</title>
<style>${PAGE_STYLE}</style>
</head>
<body>
<header><h1>Attention</h1><p id="model"></p><p id="next"></p></header>
<main id="parts"></main>
<div id="tip" role="status" hidden></div>
<script type="application/json" id="data">${json}</script>
<script>${PAGE_SCRIPT}</script>
</body>
</html>
`;
}

/** Base64 of 16-bit whole parts, little endian. */
function packed(weights: Float32Array): string {
  const bytes = new Uint8Array(weights.length * 2);
  const view = new DataView(bytes.buffer);
  weights.forEach((weight, i) => {
    view.setUint16(2 * i, Math.round(Math.min(1, Math.max(0, weight)) * WHOLE), true);
  });
  let binary = "";
  for (let at = 0; at < bytes.length; at += 8192) binary += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(binary);
}

async function hash(text: string): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text)));
  return `sha256-${btoa(String.fromCharCode(...digest))}`;
}
