import { plainEncoderDecoder } from "../plain_encoder_decoder.ts";
import { parseMarian } from "./config.ts";

/** Marian (arXiv 1804.00344), which trained the OPUS translators: the 2017 model with a bias of the logits. */
export const marian = plainEncoderDecoder({ name: "marian", parse: parseMarian });
