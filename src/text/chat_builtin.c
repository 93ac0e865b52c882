/* Built-in chat templates, for models that have none: the formats that the families' own templates write. */
#include <string.h>
#include "text/chat_template.h"
#include "text/chat_impl.h"

/* The assistant's text and what ends it are inside {% generation %}.  A system text without a place of its own goes before the first
 * question. */
#define ANSWER(end) "{% generation %}{{ m['content'] }}" end "{% endgeneration %}"
#define TURNS "{% for m in messages %}"
#define SYSTEM_FIRST                                                                                                                                 \
    "{% if messages and messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] %}{% set messages = messages[1:] %}{% endif %}"

static const struct dan_chat_builtin_template templates[] = {
    {"chatml", {"<|im_start|>", "<|im_end|>"},
     TURNS "{{ '<|im_start|>' + m['role'] + '\\n' }}{% if m['role'] == 'assistant' %}" ANSWER("<|im_end|>")
     "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"},
    {"llama3", {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"},
     TURNS "{{ '<|start_header_id|>' + m['role'] + '<|end_header_id|>\\n\\n' }}{% if m['role'] == 'assistant' %}" ANSWER("<|eot_id|>")
     "{% else %}{{ m['content'] + '<|eot_id|>' }}{% endif %}{% endfor %}"
     "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"},
    {"gemma", {"<start_of_turn>", "<end_of_turn>"},
     SYSTEM_FIRST TURNS "{{ '<start_of_turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\\n' }}"
     "{% if m['role'] == 'assistant' %}" ANSWER("<end_of_turn>") "{% else %}"
     "{{ (first + '\\n\\n' if loop.first and first else '') + m['content'] + '<end_of_turn>' }}{% endif %}{{ '\\n' }}{% endfor %}"
     "{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"},
    {"phi3", {"<|user|>", "<|assistant|>", "<|end|>"},
     TURNS "{{ '<|' + m['role'] + '|>\\n' }}{% if m['role'] == 'assistant' %}" ANSWER("<|end|>")
     "{% else %}{{ m['content'] + '<|end|>' }}{% endif %}{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"},
    {"mistral", {"[INST]", "[/INST]"},
     SYSTEM_FIRST TURNS "{% if m['role'] == 'assistant' %}{{ ' ' }}" ANSWER("{{ eos_token }}")
     "{% else %}{{ '[INST] ' + (first + '\\n\\n' if loop.first and first else '') + m['content'] + ' [/INST]' }}{% endif %}{% endfor %}"},
    {"llama2", {0},
     SYSTEM_FIRST TURNS "{% if m['role'] == 'assistant' %}{{ ' ' }}" ANSWER(" {{ eos_token }}") "{% else %}"
     "{{ (bos_token if not loop.first else '') ~ '[INST] ' + ('<<SYS>>\\n' + first + '\\n<</SYS>>\\n\\n' if loop.first and first else '')"
     " + m['content'] + ' [/INST]' }}{% endif %}{% endfor %}"},
    {"zephyr", {0},
     TURNS "{{ '<|' + m['role'] + '|>\\n' }}{% if m['role'] == 'assistant' %}" ANSWER("{{ eos_token }}")
     "{% else %}{{ m['content'] ~ eos_token }}{% endif %}{{ '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"},
    {"alpaca", {0},
     SYSTEM_FIRST "{{ (first if first else 'Below is an instruction that describes a task. Write a response that appropriately completes the request.')"
     " + '\\n\\n' }}" TURNS "{% if m['role'] == 'assistant' %}{{ '### Response:\\n' }}" ANSWER("{{ eos_token }}") "{{ '\\n\\n' }}"
     "{% else %}{{ '### Instruction:\\n' + m['content'] + '\\n\\n' }}{% endif %}{% endfor %}"
     "{% if add_generation_prompt %}{{ '### Response:\\n' }}{% endif %}"},
    {"plain", {0},
     SYSTEM_FIRST "{% if first %}{{ first + '\\n\\n' }}{% endif %}" TURNS "{% if m['role'] == 'assistant' %}Assistant:" ANSWER("") "{{ '\\n' }}"
     "{% else %}{{ 'User: ' + m['content'] + '\\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"},
};
enum { N_TEMPLATES = sizeof templates / sizeof *templates };

const struct dan_chat_builtin_template *dan_chat_builtin_find(const char *name)
{
    for (int i = 0; i < N_TEMPLATES; i++)
        if (!strcmp(templates[i].name, name)) return &templates[i];
    return NULL;
}

const char *dan_chat_builtin(const char *name)
{
    const struct dan_chat_builtin_template *t = dan_chat_builtin_find(name);
    return t ? t->text : NULL;
}

const char *dan_chat_builtin_at(size_t i) { return i < N_TEMPLATES ? templates[i].name : NULL; }

static bool fits(const struct dan_chat_builtin_template *b, const struct dan_tokenizer *tok)
{
    if (!b->needs[0]) return !strcmp(b->name, "plain");        /* the others are for who asks for them */
    for (size_t i = 0; i < sizeof b->needs / sizeof *b->needs && b->needs[i]; i++) {
        int32_t id = dan_tokenizer_find_special(tok, b->needs[i]);
        if (id < 0 || !dan_tokenizer_is_special(tok, id)) return false;
    }
    return true;
}

const char *dan_chat_builtin_for(const struct dan_tokenizer *tok)
{
    int i = 0;
    while (!fits(&templates[i], tok)) i++;     /* "plain" needs nothing */
    return templates[i].name;
}
