import { runCases } from "../support/run_cases.ts";
import { cases } from "./attention.cases.ts";

await runCases(cases);
