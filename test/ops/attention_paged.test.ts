import { runCases } from "../support/run_cases.ts";
import { cases } from "./attention_paged.cases.ts";

await runCases(cases);
