import { runCases } from "../support/run_cases.ts";
import { cases } from "./rope_append.cases.ts";

await runCases(cases);
