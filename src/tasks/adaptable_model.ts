import type { Source } from "../core/source.ts";
import type { AdaptedModel, Adapters, LoadAdapterOptions } from "./adapters.ts";
import { LoadedModel } from "./loaded_model.ts";

/** A loaded model that LoRA adapters can be put beside. */
export abstract class AdaptableModel extends LoadedModel {
  #adapters: Promise<Adapters> | undefined;

  /**
   * Loads a LoRA adapter in PEFT's format (adapter_config.json and adapter_model.safetensors) and resolves with its name; it is not in use
   * yet. Throws `BAD_FILE`, `UNSUPPORTED`, and `USAGE` while something runs. {@link Engine.loadAdapter} finds one by its Hub id or folder.
   */
  async loadAdapter(from: Source, options: LoadAdapterOptions = {}): Promise<string> {
    return (await this.#openAdapters()).load(from, options);
  }

  /** Computes with a loaded adapter from now on, or with none. Throws `USAGE` for an unknown name, and while something runs. */
  async useAdapter(name?: string): Promise<void> {
    (await this.#openAdapters()).use(name);
  }

  /** Adds a loaded adapter to the weights, for good. Throws `UNSUPPORTED` for packed weights, `USAGE` as {@link useAdapter}. */
  async mergeAdapter(name: string): Promise<void> {
    await (await this.#openAdapters()).merge(name);
  }

  /** What adapters need to know of the model; asked for once. */
  protected abstract adapted(): AdaptedModel;

  /** Frees the adapters; nothing runs any more. */
  protected async freeAdapters(): Promise<void> {
    (await this.#adapters)?.dispose();
  }

  #openAdapters(): Promise<Adapters> {
    this.checkUsable("adapter");
    // Most models never have one.
    this.#adapters ??= import("./adapters.ts").then(({ Adapters }) => new Adapters(this.adapted()));
    return this.#adapters;
  }
}
