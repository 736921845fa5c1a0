import type { HeadName } from "../protocol.ts";
import type { PaletteName } from "./draw.ts";
import type { AttentionMaps, LayerWeights, TokenText } from "./maps.ts";

/** How one head is shown. */
export type HeadView = "map" | "lines" | "table" | "steps";

/** What a person looks at: some maps, one head of them, one pair of tokens. */
export class LookState {
  maps = $state.raw<AttentionMaps | undefined>();
  /** Counts changes inside {@link maps}, which is too large to be watched itself. */
  version = $state(0);
  layer = $state(0);
  head = $state(0);
  pair = $state.raw<{ readonly query: number; readonly key: number } | undefined>();
  view = $state<HeadView>("map");
  palette = $state<PaletteName>("cividis");
  /** Heads that are switched off. */
  off = $state.raw<readonly HeadName[]>([]);

  /** Shows other maps; the head stays, if they have it. */
  show(maps: AttentionMaps): void {
    this.maps = maps;
    this.version++;
    this.layer = Math.min(this.layer, maps.layers - 1);
    this.head = Math.min(this.head, maps.heads - 1);
    const { pair } = this;
    if (pair && (pair.query >= maps.queryTokens.length || pair.key >= maps.keyTokens.length)) this.pair = undefined;
  }

  /** Adds the rows of a token that was just written. */
  extend(position: number, token: TokenText, layers: readonly LayerWeights[]): void {
    const { maps } = this;
    if (!maps) return;
    maps.queryTokens[position] = token;
    for (const layer of layers) maps.add(layer);
    this.version++;
  }

  clear(): void {
    this.maps = undefined;
    this.pair = undefined;
    this.version++;
  }

  select(layer: number, head: number): void {
    this.layer = layer;
    this.head = head;
  }

  isOff(layer: number, head: number): boolean {
    return this.off.some((name) => name.layer === layer && name.head === head);
  }

  /** Switches a head off, or on again. */
  toggle(layer: number, head: number): void {
    this.off = this.isOff(layer, head)
      ? this.off.filter((name) => name.layer !== layer || name.head !== head)
      : [...this.off, { layer, head }];
  }
}
