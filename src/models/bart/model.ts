import { plainEncoderDecoder } from "../plain_encoder_decoder.ts";
import { parseBart } from "./config.ts";

/**
 * BART (arXiv 1910.13461 §2.1): the 2017 model with GELU, learned positions and a norm of the embeddings. mBART (arXiv
 * 2001.08210) has its norms before the sublayers.
 */
export const bart = plainEncoderDecoder({ name: "bart", modelTypes: ["bart", "mbart"], parse: parseBart });
