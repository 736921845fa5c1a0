import { HeedError } from "../core/errors.ts";

/** A name that a pickle imports, such as `torch.FloatStorage`; nothing is ever called by it. */
export class PickleGlobal {
  readonly name: string;

  constructor(name: string) {
    this.name = name;
  }
}

/** What the reader of a pickle allows: everything else is refused. */
export interface PickleRules {
  /** True for the globals that may be named at all. */
  readonly allows: (name: string) => boolean;
  /** What a call of an allowed global stands for. Throws for arguments that it does not take. */
  readonly call: (name: string, args: readonly unknown[]) => unknown;
  /** What a persistent id stands for (PyTorch's storages). */
  readonly persistent: (id: unknown) => unknown;
  /** How messages call the file. */
  readonly what: string;
}

/** A value and where the pickle ended. */
export interface Unpickled {
  readonly value: unknown;
  readonly end: number;
}

/** Thrown where the bytes end before the pickle does: there may be more to read. */
export class PickleCutShort extends Error {}

const MARK = Symbol("mark");

/**
 * Reads one pickle from `start` of `bytes` by an allow-list: numbers, texts, tuples, lists, dicts (as `Map`s) and the globals
 * of `rules`. It executes nothing: a call of an allowed global is handed to `rules.call`, which makes plain data of it.
 * Throws `UNSUPPORTED` naming the opcode or global that is not allowed, `BAD_FILE` for what is no pickle, and
 * {@link PickleCutShort}. Source: CPython's pickletools.py.
 */
export function unpickle(bytes: Uint8Array, start: number, rules: PickleRules): Unpickled {
  return new Unpickler(bytes, start, rules).run();
}

class Unpickler {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #rules: PickleRules;
  #at: number;
  #stack: unknown[] = [];
  readonly #memo = new Map<number, unknown>();

  constructor(bytes: Uint8Array, start: number, rules: PickleRules) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#at = start;
    this.#rules = rules;
  }

  run(): Unpickled {
    for (;;) {
      const place = this.#at;
      const opcode = this.#byte();
      // "." ends a pickle.
      if (opcode === 0x2e) return { value: this.#pop(), end: this.#at };
      const known = this.#number(opcode) || this.#text(opcode) || this.#container(opcode) || this.#object(opcode);
      if (!known) throw this.#refuse(`opcode 0x${opcode.toString(16).padStart(2, "0")} at byte ${place}`);
    }
  }

  #number(opcode: number): boolean {
    switch (opcode) {
      case 0x80: // PROTO
        this.#byte();
        return true;
      case 0x95: // FRAME
        this.#take(8);
        return true;
      case 0x4e: // NONE
        return this.#push(null);
      case 0x88: // NEWTRUE
        return this.#push(true);
      case 0x89: // NEWFALSE
        return this.#push(false);
      case 0x4a: // BININT
        return this.#push(this.#view.getInt32(this.#take(4), true));
      case 0x4b: // BININT1
        return this.#push(this.#byte());
      case 0x4d: // BININT2
        return this.#push(this.#view.getUint16(this.#take(2), true));
      case 0x8a: // LONG1
        return this.#push(this.#long(this.#byte()));
      case 0x8b: // LONG4
        return this.#push(this.#long(this.#view.getUint32(this.#take(4), true)));
      case 0x47: // BINFLOAT
        return this.#push(this.#view.getFloat64(this.#take(8), false));
      case 0x49: // INT
      case 0x4c: // LONG
        return this.#push(this.#decimal());
      default:
        return false;
    }
  }

  #text(opcode: number): boolean {
    switch (opcode) {
      case 0x58: // BINUNICODE
      case 0x54: // BINSTRING
        return this.#push(this.#string(this.#view.getUint32(this.#take(4), true)));
      case 0x8c: // SHORT_BINUNICODE
      case 0x55: // SHORT_BINSTRING
        return this.#push(this.#string(this.#byte()));
      case 0x42: // BINBYTES
        return this.#push(this.#slice(this.#view.getUint32(this.#take(4), true)));
      case 0x43: // SHORT_BINBYTES
        return this.#push(this.#slice(this.#byte()));
      case 0x56: // UNICODE
        return this.#push(this.#line());
      default:
        return false;
    }
  }

  #container(opcode: number): boolean {
    switch (opcode) {
      case 0x28: // MARK
        return this.#push(MARK);
      case 0x29: // EMPTY_TUPLE
      case 0x5d: // EMPTY_LIST
        return this.#push([]);
      case 0x7d: // EMPTY_DICT
        return this.#push(new Map());
      case 0x74: // TUPLE
      case 0x6c: // LIST
        return this.#push(this.#popMark());
      case 0x64: // DICT
        return this.#setItems(new Map(), this.#popMark());
      case 0x85: // TUPLE1
      case 0x86: // TUPLE2
      case 0x87: // TUPLE3
        return this.#push(this.#popMany(opcode - 0x84));
      case 0x61: // APPEND
        return this.#append(this.#popMany(1));
      case 0x65: // APPENDS
        return this.#append(this.#popMark());
      case 0x73: // SETITEM
        return this.#setTop(this.#popMany(2));
      case 0x75: // SETITEMS
        return this.#setTop(this.#popMark());
      case 0x30: // POP
        this.#pop();
        return true;
      default:
        return this.#memory(opcode);
    }
  }

  #memory(opcode: number): boolean {
    switch (opcode) {
      case 0x71: // BINPUT
        return this.#remember(this.#byte());
      case 0x72: // LONG_BINPUT
        return this.#remember(this.#view.getUint32(this.#take(4), true));
      case 0x94: // MEMOIZE
        return this.#remember(this.#memo.size);
      case 0x68: // BINGET
        return this.#recall(this.#byte());
      case 0x6a: // LONG_BINGET
        return this.#recall(this.#view.getUint32(this.#take(4), true));
      default:
        return false;
    }
  }

  #object(opcode: number): boolean {
    switch (opcode) {
      case 0x63: // GLOBAL
        return this.#global(this.#line(), this.#line());
      case 0x93: {
        // STACK_GLOBAL
        const [module, name] = this.#popMany(2);
        return this.#global(String(module), String(name));
      }
      case 0x52: // REDUCE
      case 0x81: {
        // NEWOBJ
        const [callee, args] = this.#popMany(2);
        if (!(callee instanceof PickleGlobal) || !Array.isArray(args)) throw this.#broken("a call must be of a global");
        return this.#push(this.#rules.call(callee.name, args));
      }
      case 0x62: // BUILD: the attributes of a dict (its `_metadata`) say nothing about tensors.
        this.#pop();
        if (!(this.#top() instanceof Map)) throw this.#refuse("the state of an object (opcode 0x62)");
        return true;
      case 0x51: // BINPERSID
        return this.#push(this.#rules.persistent(this.#pop()));
      default:
        return false;
    }
  }

  #global(module: string, name: string): boolean {
    const full = `${module}.${name}`;
    if (!this.#rules.allows(full)) throw this.#refuse(`the global ${JSON.stringify(full.slice(0, 100))}`);
    return this.#push(new PickleGlobal(full));
  }

  #byte(): number {
    return this.#bytes[this.#take(1)] as number;
  }

  /** Moves on by so many bytes; the place before them. */
  #take(count: number): number {
    if (count > this.#bytes.length - this.#at) throw new PickleCutShort();
    this.#at += count;
    return this.#at - count;
  }

  #slice(count: number): Uint8Array {
    const start = this.#take(count);
    return this.#bytes.subarray(start, start + count);
  }

  #string(count: number): string {
    return new TextDecoder("utf-8", { ignoreBOM: true }).decode(this.#slice(count));
  }

  #line(): string {
    const end = this.#bytes.indexOf(0x0a, this.#at);
    if (end < 0) throw new PickleCutShort();
    const text = this.#string(end - this.#at);
    this.#at++;
    return text;
  }

  #decimal(): number | boolean {
    const text = this.#line().replace(/L$/, "");
    if (text === "01" || text === "00") return text === "01";
    const value = Number(text);
    if (!/^-?\d+$/.test(text) || !Number.isSafeInteger(value)) throw this.#broken("an integer must be one");
    return value;
  }

  /** A two's complement number of so many bytes. One of more than eight is a magic number or of no use: a text then. */
  #long(count: number): number | string {
    const bytes = this.#slice(count);
    if (count > 8)
      return `0x${[...bytes.slice(0, 64)]
        .reverse()
        .map((byte) => byte.toString(16).padStart(2, "0"))
        .join("")}`;
    let value = 0;
    bytes.forEach((byte, i) => {
      value += byte * 2 ** (8 * i);
    });
    return count > 0 && (bytes[count - 1] as number) >= 0x80 ? value - 2 ** (8 * count) : value;
  }

  #push(value: unknown): true {
    this.#stack.push(value);
    return true;
  }

  #pop(): unknown {
    if (this.#stack.length === 0) throw this.#broken("it must leave something on its stack");
    return this.#stack.pop();
  }

  #top(): unknown {
    return this.#stack.at(-1);
  }

  #popMany(count: number): unknown[] {
    if (this.#stack.length < count) throw this.#broken("it must leave something on its stack");
    return this.#stack.splice(this.#stack.length - count, count);
  }

  #popMark(): unknown[] {
    const at = this.#stack.lastIndexOf(MARK);
    if (at < 0) throw this.#broken("it must mark what it puts together");
    return this.#stack.splice(at).slice(1);
  }

  #append(values: readonly unknown[]): true {
    const list = this.#top();
    if (!Array.isArray(list)) throw this.#broken("it must append to a list");
    for (const value of values) list.push(value);
    return true;
  }

  #setTop(pairs: readonly unknown[]): true {
    const map = this.#pop();
    if (!(map instanceof Map)) throw this.#broken("it must set the items of a dict");
    return this.#setItems(map, pairs);
  }

  #setItems(map: Map<unknown, unknown>, pairs: readonly unknown[]): true {
    for (let i = 0; i + 1 < pairs.length; i += 2) map.set(pairs[i], pairs[i + 1]);
    return this.#push(map);
  }

  #remember(key: number): true {
    this.#memo.set(key, this.#top());
    return true;
  }

  #recall(key: number): true {
    if (!this.#memo.has(key)) throw this.#broken("it must name what it has kept");
    return this.#push(this.#memo.get(key));
  }

  #refuse(what: string): HeedError {
    return new HeedError(
      "UNSUPPORTED",
      `pickle: only tensors, numbers, texts, lists and dicts are read, and nothing is executed; got ${what} in ${this.#rules.what}. ` +
        "Save the model's state_dict, or use a checkpoint in safetensors.",
    );
  }

  #broken(rule: string): HeedError {
    return new HeedError(
      "BAD_FILE",
      `pickle: ${rule}; got something else at byte ${this.#at} of ${this.#rules.what}. The file is damaged: download or save it again.`,
    );
  }
}
