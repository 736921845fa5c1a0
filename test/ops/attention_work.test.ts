import { runCases } from "../support/run_cases.ts";
import { cases } from "./attention_work.cases.ts";

await runCases(cases);
