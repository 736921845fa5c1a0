import { runCases } from "../support/run_cases.ts";
import { cases } from "./accumulate.cases.ts";

await runCases(cases);
