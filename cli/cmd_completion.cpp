// SPDX-License-Identifier: Apache-2.0
#include "cli/cmd_completion.h"

#include <fmt/format.h>

#include <memory>

namespace thermocline::cli {
namespace {

constexpr const char* bashScript = R"bash(# bash completion for thermoctl
_thermoctl()
{
    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=
    local commands='list status attach detach limit proactive freeze-paused priority budget plan file-tier heat history top doctor completion'
    local i
    for ((i = 1; i < COMP_CWORD; i++)); do
        [[ " $commands " == *" ${COMP_WORDS[i]} "* ]] && { command=${COMP_WORDS[i]}; break; }
    done
    COMPREPLY=()
    if [[ -z $command ]]; then
        mapfile -t COMPREPLY < <(compgen -W "$commands --help --version" -- "$cur")
        return
    fi
    case $prev in
        --bus) mapfile -t COMPREPLY < <(compgen -W 'system session' -- "$cur"); return ;;
        --resolution) mapfile -t COMPREPLY < <(compgen -W 'auto raw minute' -- "$cur"); return ;;
        --since | --until) mapfile -t COMPREPLY < <(compgen -W '10m 1h 1d 1w today yesterday now' -- "$cur"); return ;;
        --max-stall) mapfile -t COMPREPLY < <(compgen -W '0.1% 0.5% 1% 2%' -- "$cur"); return ;;
        --min-resident) mapfile -t COMPREPLY < <(compgen -W '256M 512M 1G 2G' -- "$cur"); return ;;
        --plot) mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
        --step) mapfile -t COMPREPLY < <(compgen -W '10s 1m 10m 1h 1d' -- "$cur"); return ;;
        --budget) mapfile -t COMPREPLY < <(compgen -W '50% 75% 90%' -- "$cur"); return ;;
        --keep-free) mapfile -t COMPREPLY < <(compgen -W '512M 1G 2G 4G' -- "$cur"); return ;;
        --count | --interval | --pieces) return ;;
    esac
    if [[ $cur == -* ]]; then
        local options='--help --json --bus'
        case $command in
            list) options+=' --names' ;;
            proactive) options+=' --max-stall --min-resident' ;;
            heat) options+=' --pieces --plot' ;;
            history) options+=' --since --until --step --table --csv --plot --resolution' ;;
            budget) options+=' --keep-free' ;;
            plan) options+=' --budget --keep-free' ;;
            top) options+=' --count --interval' ;;
        esac
        mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
        return
    fi
    case $command in
        status | attach | detach | limit | proactive | freeze-paused | priority | file-tier | heat | history | doctor)
            if ((COMP_CWORD == i + 1)); then
                local IFS=$'\n'
                mapfile -t COMPREPLY < <(compgen -W "$(thermoctl list --names 2> /dev/null)" -- "$cur")
            elif [[ $command == limit ]] && ((COMP_CWORD == i + 2)); then
                mapfile -t COMPREPLY < <(compgen -W 'none 256M 512M 1G 2G 4G 8G' -- "$cur")
            elif [[ $command == proactive || $command == file-tier ]] && ((COMP_CWORD == i + 2)); then
                mapfile -t COMPREPLY < <(compgen -W 'off' -- "$cur")
            fi
            ;;
        budget) mapfile -t COMPREPLY < <(compgen -W 'off default 50% 75% 90%' -- "$cur") ;;
        completion) mapfile -t COMPREPLY < <(compgen -W 'bash' -- "$cur") ;;
    esac
}
complete -F _thermoctl thermoctl
)bash";

}  // namespace

void addCompletionCommand(CLI::App& app, Common& common) {
    auto* const command = app.add_subcommand("completion", "print a completion script for a shell");
    command->footer(
        "\nExamples:\n  source <(thermoctl completion bash)\n"
        "  thermoctl completion bash > /usr/share/bash-completion/completions/thermoctl\n");
    const auto shell = std::make_shared<std::string>();
    command->add_option("SHELL", *shell, "bash")->required()->check(CLI::IsMember({"bash"}));
    command->callback([&common, shell] {  // the option writes to what `shell` points to
        common.run = []() -> Expected<ExitCode> {
            fmt::print("{}", bashScript);
            return ExitCode::ok;
        };
    });
}

}  // namespace thermocline::cli
