import { runCases } from "../support/run_cases.ts";
import { cases } from "./token_choice.cases.ts";

await runCases(cases);
