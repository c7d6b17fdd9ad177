"""For teachers: an answer to each exercise, and beside it, as NAME_wrong, a mistake that its check must find.

The functions stand in place of those of the same name in the notebooks, whose names and imports they use.
"""
# ruff: noqa: F821


# ---- names.ipynb ----------------------------------------------------------------------------------------------------
def one_hot(numbers, size):
    return torch.eye(size)[numbers]


def one_hot_wrong(numbers, size):  # the other way round
    return torch.eye(size)[numbers].T


def elman(x, h, w_ih, w_hh, b_ih, b_hh):
    return torch.tanh(x @ w_ih.T + b_ih + h @ w_hh.T + b_hh)


def elman_wrong(x, h, w_ih, w_hh, b_ih, b_hh):  # one bias forgotten
    return torch.tanh(x @ w_ih.T + b_ih + h @ w_hh.T)


def lstm(x, h, c, w_ih, w_hh, b_ih, b_hh):
    i, f, g, o = reference.lstm_gates(x, h, w_ih, w_hh, b_ih, b_hh)
    c = f * c + i * g
    return o * torch.tanh(c), c


def lstm_wrong(x, h, c, w_ih, w_hh, b_ih, b_hh):  # h_t of the cell state before
    i, f, g, o = reference.lstm_gates(x, h, w_ih, w_hh, b_ih, b_hh)
    return o * torch.tanh(c), f * c + i * g


def last_state(x, w_ih, w_hh, b_ih, b_hh):
    h = torch.zeros(x.shape[1], w_hh.shape[0])
    for x_t in x:
        h = elman(x_t, h, w_ih, w_hh, b_ih, b_hh)
    return h


def last_state_wrong(x, w_ih, w_hh, b_ih, b_hh):  # the state is not handed on
    h = torch.zeros(x.shape[1], w_hh.shape[0])
    return elman(x[-1], h, w_ih, w_hh, b_ih, b_hh)


def cross_entropy(logits, labels):
    return -logits.log_softmax(1)[torch.arange(len(labels)), labels].mean()


def cross_entropy_wrong(logits, labels):  # log of a probability that was rounded to 0
    return -logits.softmax(1)[torch.arange(len(labels)), labels].log().mean()


def write_name(step, klass, longest):
    name, character, state = [], EDGE, None
    while len(name) < longest:
        scores, state = step(klass, character, state)
        character = int(scores.argmax())
        if character == EDGE:
            break
        name.append(character)
    return name


def write_name_wrong(step, klass, longest):  # the state is not handed on
    name, character = [], EDGE
    while len(name) < longest:
        scores, _ = step(klass, character, None)
        character = int(scores.argmax())
        if character == EDGE:
            break
        name.append(character)
    return name


# ---- translate.ipynb ------------------------------------------------------------------------------------------------
def shift(numbers):
    return torch.cat([torch.tensor([START]), numbers[:-1]]), numbers


def shift_wrong(numbers):  # what shall come out is put in
    return numbers, numbers


@torch.no_grad()
def handed_over(model, numbers):
    _, last = model.encoder(model.source_embedding(numbers.flip(0)).unsqueeze(1))
    return last


@torch.no_grad()
def handed_over_wrong(model, numbers):  # read from the beginning
    _, last = model.encoder(model.source_embedding(numbers).unsqueeze(1))
    return last


def attend(query, keys, states):
    weights = (query @ keys.transpose(1, 2) / query.shape[2] ** 0.5).softmax(2)
    return weights @ states, weights


def attend_wrong(query, keys, states):  # softmax over the target's words
    weights = (query @ keys.transpose(1, 2) / query.shape[2] ** 0.5).softmax(1)
    return weights @ states, weights


def greedy(sentence, longest):
    state, word, words = read(sentence), START, []
    while len(words) < longest:
        scores, state = next_word(state, word)
        word = int(scores.argmax())
        if word == END:
            break
        words.append(word)
    return words


def greedy_wrong(sentence, longest):  # END is taken for a word
    state, word, words = read(sentence), START, []
    while len(words) < longest and word != END:
        scores, state = next_word(state, word)
        word = int(scores.argmax())
        words.append(word)
    return words


# ---- lm.ipynb -------------------------------------------------------------------------------------------------------
def vocabulary(lines):
    counts = {}
    for line in lines:
        for word in [*line, END]:
            counts[word] = counts.get(word, 0) + 1
    return [*sorted(counts, key=counts.get, reverse=True), UNKNOWN]


def vocabulary_wrong(lines):  # the ends of lines forgotten
    counts = {}
    for line in lines:
        for word in line:
            counts[word] = counts.get(word, 0) + 1
    return [*sorted(counts, key=counts.get, reverse=True), END, UNKNOWN]


def batchify(numbers, batch_size):
    steps = len(numbers) // batch_size
    return numbers[: steps * batch_size].view(batch_size, steps).T


def batchify_wrong(numbers, batch_size):  # the text runs along the rows, not down the columns
    steps = len(numbers) // batch_size
    return numbers[: steps * batch_size].view(steps, batch_size)


def get_batch(source, start, bptt):
    end = min(start + bptt, len(source) - 1)
    return source[start:end], source[start + 1 : end + 1]


def get_batch_wrong(source, start, bptt):  # at the end an input has no target
    end = start + bptt
    return source[start:end], source[start + 1 : end + 1]


def repackage(state):
    return tuple(part.detach() for part in state)


def repackage_wrong(state):  # clone copies the values and stays on the graph
    return tuple(part.clone() for part in state)


def perplexity(p):
    return torch.exp(-p.log().mean())


def perplexity_wrong(p):  # the mean of the probabilities, not of their logarithms
    return torch.exp(-p.mean().log())


def soften(scores, temperature):
    return (scores / temperature).softmax(-1)


def soften_wrong(scores, temperature):  # divided after softmax
    return scores.softmax(-1) / temperature


# ---- news.ipynb -----------------------------------------------------------------------------------------------------
def word_ids(titles, title):
    counts = Counter(word for headline in titles for word in words_of(headline))
    frequent = [word for word, count in counts.most_common() if count > 1]
    numbers = {word: number for number, word in enumerate(frequent, 1)}
    return [numbers.get(word, OTHER) for word in words_of(title)]


def word_ids_wrong(titles, title):  # words seen once are numbered too
    counts = Counter(word for headline in titles for word in words_of(headline))
    numbers = {word: number for number, (word, _) in enumerate(counts.most_common(), 1)}
    return [numbers.get(word, OTHER) for word in words_of(title)]


@torch.no_grad()
def probabilities(model, title):
    numbers = torch.tensor(dictionary.ids(words_of(title)))
    _states, last = model.rnn(model.embedding(numbers))
    return model.output(last[0]).softmax(0)


@torch.no_grad()
def probabilities_wrong(model, title):  # the first state, which has read one word
    numbers = torch.tensor(dictionary.ids(words_of(title)))
    states, _last = model.rnn(model.embedding(numbers))
    return model.output(states[0]).softmax(0)


def sgd_step(weight, gradient, lr):
    return weight - lr * gradient


def sgd_step_wrong(weight, gradient, lr):  # uphill
    return weight + lr * gradient


def pad(rows, padding):
    longest = max(map(len, rows))
    return torch.tensor([row + [padding] * (longest - len(row)) for row in rows])


def pad_wrong(rows, padding):  # 0 is a word
    longest = max(map(len, rows))
    return torch.tensor([row + [OTHER] * (longest - len(row)) for row in rows])


def longest_first(lengths):
    return sorted(range(len(lengths)), key=lambda place: -lengths[place])


def longest_first_wrong(lengths):  # the shortest first
    return sorted(range(len(lengths)), key=lambda place: lengths[place])


def running(lengths):
    return [sum(length > t for length in lengths) for t in range(lengths[0])]


def running_wrong(lengths):  # one too many at the last step of each
    return [sum(length >= t for length in lengths) for t in range(lengths[0])]
