module github.com/llmstatsd/llmstatsd/client/go

go 1.19
